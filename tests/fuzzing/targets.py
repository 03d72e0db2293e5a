"""All that is fuzzed, by name."""

from collections.abc import Mapping

from fuzzing import annotations, folders, masks, pictures
from fuzzing.target import Target

TARGETS: Mapping[str, Target] = {
    target.name: target for room in (pictures, masks, folders, annotations) for target in room.TARGETS
}
