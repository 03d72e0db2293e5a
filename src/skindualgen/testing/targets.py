"""All that is fuzzed, by name."""

from collections.abc import Mapping

from skindualgen.testing import annotations, folders, masks, pictures
from skindualgen.testing.target import Target

TARGETS: Mapping[str, Target] = {
    target.name: target for room in (pictures, masks, folders, annotations) for target in room.TARGETS
}
