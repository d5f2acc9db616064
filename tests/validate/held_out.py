"""Pairs written after the validators, to see how well their rules do on what they weren't made from.

Columns and signs as in `validate.pairs`. The rules are not to be mended by these pairs; what fails here is the error
rate, which benchmarks/validators.py prints.
"""

from __future__ import annotations

HELD_OUT: tuple[tuple[str, str, str], ...] = (
    ("Your destination is the brown building to the south.", "Go to the brown structure that lies south.", "++0"),
    ("Proceed west and you'll spot a small white shed.", "Keep flying west till you notice a tiny white shed.", "++0"),
    ("Rotate to your left and cross the baseball field.", "Spin left and traverse the baseball field.", "++0"),
    ("Hang a left after the roundabout.", "After the traffic circle, go left.", "++0"),
    ("Once past the row of trees, swing right.", "Swing to the right as soon as the trees are behind you.", "++0"),
    ("The goal is directly in front of you.", "The goal lies straight ahead.", "+00"),
    ("The pool is at your four o'clock.", "Look towards 4 o'clock to find the pool.", "+++"),
    ("Head in the eight o'clock direction until the water.", "Move towards 8 o'clock until you see water.", "+0+"),
    ("Take off, ascend and follow the railroad east.", "After take-off, climb and go east along the railway.", "++0"),
    ("Pass over the highway, then bear left.", "Fly over the motorway and then bear to the left.", "++0"),
    ("Turn back towards the hangar.", "Turn around and face the hangar.", "++0"),
    ("It's the third container from the left.", "Count from the left; it is container number three.", "+-0"),
    ("Go up a bit and look down at the courtyard.", "Rise slightly and look down on the patio.", "++0"),
    ("Leave the stadium on your right and go on.", "Go on, keeping the arena to your right.", "++0"),
    ("Fly over the blue-roofed warehouse.", "Cross the warehouse with the blue roof.", "0+0"),
    ("You will pass two silos before the barn.", "Before you get to the barn there are two silos.", "0+0"),
    ("Destination is a school with a round roof.", "You're looking for a school whose roof is circular.", "0+0"),
    ("Go forward without turning left.", "Go forward; do not turn left.", "++0"),
    ("Continue until the T-junction and go right there.", "At the T-junction ahead, take a right.", "++0"),
    ("Turn to 6 o'clock.", "Turn around.", "+0-"),
    ("Go southwest beyond the cemetery.", "Go south-west, farther than the graveyard.", "++0"),
    ("Hover over the intersection facing north.", "Stay above the crossroads while you look north.", "++0"),
    ("Swing left at the lighthouse.", "Swing right at the lighthouse.", "-+0"),
    ("Proceed west and you'll spot a small white shed.", "Proceed east and you'll spot a small white shed.", "-+0"),
    ("The pool is at your four o'clock.", "The pool is at your eight o'clock.", "-+-"),
    ("The goal is directly in front of you.", "The goal is directly behind you.", "-00"),
    ("Rotate to your left and cross the baseball field.", "Rotate to your left and cross the parking lot.", "+-0"),
    ("Destination is a school with a round roof.", "Destination is a hospital with a flat roof.", "0-0"),
    ("Take off, ascend and follow the railroad east.", "Take off, ascend and follow the river east.", "+-0"),
    ("Leave the stadium on your right and go on.", "Leave the stadium on your left and go on.", "-+0"),
    ("Fly over the blue-roofed warehouse.", "Fly over the green-roofed warehouse.", "0-0"),
    ("Go forward without turning left.", "Go forward, turning left.", "-+0"),
    ("Turn back towards the hangar.", "Keep straight on towards the hangar.", "-+0"),
    ("Go southwest beyond the cemetery.", "Go northwest beyond the cemetery.", "-+0"),
    ("Pass over the highway, then bear left.", "Pass over the highway, then bear right.", "-+0"),
    ("Go up a bit and look at the courtyard.", "Go down a bit and look at the courtyard.", "-+0"),
    ("Cross the lake and land by the red boat.", "Cross the lake and land by the yellow boat.", "0-0"),
    ("Head in the eight o'clock direction to water.", "Head in the two o'clock direction to water.", "-0-"),
    ("Turn right at the second crossroad.", "Turn right at the first crossroad.", "+-0"),
    ("Enter the room on the left and stop at the desk.", "Enter the room on the right and stop at the desk.", "-+0"),
)  # fmt: skip
