"""What the stories of a run come to, counted from its record alone: its input may be elsewhere by now."""

from __future__ import annotations

from tokenmill.driver.card import Count, figures_of
from tokenmill.driver.data_set import ended, scores_of
from tokenmill.driver.storyteller import Story, heard_of
from tokenmill.pipeline import Recipe, tell
from tokenmill.pipeline.asking import opening
from tokenmill.record.store import Record
from tokenmill.record.stories import Stories
from tokenmill.report.certificate import Certificate
from tokenmill.report.data_set import DataSet


def data_set_in(record: Record, recipe: Recipe, certificate: Certificate) -> DataSet:
    """The figures of a run's data set, also of one that isn't finished."""
    count, first = Count(recipe), opening(recipe).key
    stories = Stories(record.path)
    try:
        for root in stories.roots():
            prompts = stories.prompts(root)
            heard = heard_of(stories.found(root), {prompt.row: prompt.key or first for prompt in prompts})
            asked = {prompt.key or first: prompt for prompt in prompts}
            story = Story(root=root, custom_id="", fields={}, asked=asked, heard=heard, has_ended=False)
            count.add(story, ended(stories, story, tell(recipe, heard)), scores_of(stories, story))
    finally:
        stories.close()
    return figures_of(record, count, certificate)
