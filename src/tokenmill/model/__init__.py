"""The files of a model, read with distrust: its configuration and where its weights lie. Nothing here loads torch."""
