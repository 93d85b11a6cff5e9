"""Every word of the twenty generators, in the order of its number in a vocabulary that all tasks share."""

from __future__ import annotations

_TEXT = """
    a above afraid after afternoon afterwards and antoine apple apple,football apple,football,milk apple,milk
    apple,milk,football are back bathroom bedroom before below bernhard bigger blue bored box brian carrying cat
    cats chest chocolate color container daniel did discarded do does down dropped e,e e,n e,s e,w east either
    emily evening fit fits following football football,apple football,apple,milk football,milk
    football,milk,apple frog from garden gave gertrude get give go got grabbed gray green greg hallway handed he
    how hungry in inside is jason jessica john journeyed julius kitchen left lily lion longer many mary maybe
    mice milk milk,apple milk,apple,football milk,football milk,football,apple morning mouse moved n,e n,n n,s
    n,w no none north not nothing objects of office one or pajamas passed picked pink put received rectangle red
    rhino right s,e s,n s,s s,w sandra she sheep south sphere square suitcase sumit swan than that the then
    there they thirsty this three tired to took travelled triangle two up w,e w,n w,s w,w was went west what
    where white who why will winona wolf wolves yann yellow yes yesterday you
"""

#: Sorted; word i of this tuple has index i + 1, 0 pads. Lists and paths are one word each (``milk,football``, ``s,e``).
WORDS: tuple[str, ...] = tuple(_TEXT.split())
