"""All names of a data set's metadata in a temporary database, so that memory does not grow with their number."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from types import TracebackType

from skindualgen.contracts import PairRecord
from skindualgen.verify.deviations import Deviation


class Register:
    """Which record names which file; SQLite keeps it in a file of its own, which it removes."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")
        self._database.execute("CREATE TABLE ids (isic_id TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        self._database.execute(
            "CREATE TABLE files (name TEXT PRIMARY KEY, isic_id TEXT, line INTEGER, sha256 TEXT) WITHOUT ROWID"
        )
        self._indexed = False

    def __enter__(self) -> Register:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, record: PairRecord, line: int, metadata: str) -> list[Deviation]:
        """Take up a record; say what an earlier one has already named.

        Args:
            record: of the metadata.
            line: its number there, 1 is the first.
            metadata: name of that file.
        """
        found = []
        if not self._inserted("INSERT OR IGNORE INTO ids VALUES (?, ?)", record.isic_id, line):
            earlier = self._one("SELECT line FROM ids WHERE isic_id = ?", record.isic_id)
            found.append(
                Deviation(
                    "repeated", metadata, f"the id {record.isic_id} in the lines {earlier} and {line}", "each id once"
                )
            )
        for name, sha256 in record.files.items():
            if not self._inserted(
                "INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?)", name, record.isic_id, line, sha256
            ):
                earlier = self._one("SELECT line FROM files WHERE name = ?", name)
                found.append(
                    Deviation("repeated", name, f"a file of the lines {earlier} and {line} of {metadata}", "one record")
                )
        return found

    def names(self, file: str) -> bool:
        """Whether a record names this file."""
        return self._one("SELECT 1 FROM files WHERE name = ?", file) is not None

    def owner(self, sha256: str) -> str | None:
        """The name under which a content is recorded; None if it is not."""
        if not self._indexed:
            self._database.execute("CREATE INDEX contents ON files (sha256)")
            self._indexed = True
        return self._one("SELECT name FROM files WHERE sha256 = ?", sha256)

    def _inserted(self, statement: str, *values: object) -> bool:
        with closing(self._database.execute(statement, values)) as cursor:
            return cursor.rowcount == 1

    def _one(self, statement: str, value: str) -> str | None:
        with closing(self._database.execute(statement, (value,))) as cursor:
            row = cursor.fetchone()
        return None if row is None else str(row[0])
