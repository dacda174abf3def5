"""What is old goes: records and files of batches that have ended, and files that no record speaks of any more.

Redis drops the record of an ended batch after 90 days (`tasks.jobs.store.KEEP_BATCH`); its files stay until
somebody cleans. A batch that is not over is never touched. Files without a record are removed only where that is
asked for: another Overnight, with another Redis, may share the storage.
"""

import time
from dataclasses import dataclass

from tasks.batches.files import errors_name, files_of, folders, output_names
from tasks.batches.store import Store
from tasks.jobs.storage import open_files
from workers.config.settings import Settings

#: Seconds after which files without a record count as left over: a submit writes them before its record.
LEFT_OVER = 86_400.0

#: Seconds after a batch's end for which the parts of an object store stay beside the files that were joined of them.
PARTS_STAY = 86_400.0


@dataclass(slots=True)
class Cleaned:
    """What was removed, or would be; `left_over` are folders of batches without a record."""

    batches: list[str]
    left_over: list[str]
    live: int = 0
    kept: int = 0


def clean(settings: Settings, store: Store, *, older_than: float, left_over: bool, dry_run: bool) -> Cleaned:
    """Remove batches that ended more than `older_than` seconds ago and, with `left_over`, files that belong to none."""
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
            if not dry_run and now - batch.ended > PARTS_STAY:
                files = files_of(batch)
                for name in (*output_names(batch), errors_name(batch)):
                    files.remove_parts(name)
            continue
        found.batches.append(batch.id)
        if not dry_run:
            # The files first: without a record they would still be found, but not the other way round.
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
