"""Deletes old batches: their records and files, and files that no longer have a record.

Redis drops the record of an ended batch after 90 days (`tasks.jobs.store.KEEP_BATCH`), but its files stay until they
are deleted here. A batch that has not ended is never touched. Files without a record are deleted only on request,
because another Overnight, with another Redis, may use the same storage.
"""

import time
from dataclasses import dataclass

from tasks.batches.files import errors_name, files_of, folders, output_names
from tasks.batches.store import Store
from tasks.jobs.storage import open_files
from workers.config.settings import Settings

#: Age in seconds at which files without a record count as left over: submit writes the input before the record.
LEFT_OVER = 86_400.0

#: Seconds after a batch's end for which an object store keeps the parts beside the joined files.
KEEP_PARTS = 86_400.0


@dataclass(slots=True)
class Cleaned:
    """What was deleted, or would be; `left_over` are folders without a record."""

    batches: list[str]
    left_over: list[str]
    live: int = 0
    kept: int = 0


def clean(settings: Settings, store: Store, *, older_than: float, left_over: bool, dry_run: bool) -> Cleaned:
    """Delete batches that ended more than `older_than` seconds ago and, with `left_over`, files without a record."""
    now = time.time()
    found = Cleaned([], [])
    known = set()
    for batch in store.every():
        known.add(batch.id)
        if not batch.over:
            found.live += 1
            continue
        if now - batch.ended < older_than:
            found.kept += 1
            if not dry_run and now - batch.ended > KEEP_PARTS:
                files = files_of(batch)
                for name in (*output_names(batch), errors_name(batch)):
                    files.remove_parts(name)
            continue
        found.batches.append(batch.id)
        if not dry_run:
            # Delete the files first: if this is interrupted, the next run still finds the record.
            files_of(batch).remove()
            store.forget(batch.id)
    for name, changed in sorted(folders(settings.storage).items()):
        if name not in known and now - changed > max(LEFT_OVER, older_than):
            found.left_over.append(name)
            if left_over and not dry_run:
                open_files(settings.storage, name).remove()
    if not dry_run:
        store.forget_missing()
    return found
