"""The plugin as its host sees it. componentize-py makes `wit_world` of the WIT; the class names are given."""

from componentize_py_types import Err
from wit_world.exports.consolidator import Failure, PluginInfo
from wit_world.imports import log, memory
from wit_world.imports.types import Update

from lessons import KIND, Lessons


class Consolidator:
    def info(self):
        return PluginInfo(name="lessons", version="0.1.0")

    def consolidate(self, batch):
        lessons = Lessons(read)
        for entry in batch.entries:
            try:
                lessons.add(entry.id, entry.segment_id, entry.json)
            except ValueError as error:
                # Named, so that the other entries are tried again without it.
                raise Err(Failure(f"the payload can't be read: {error}", [entry.id], False))
        updates = [
            Update(KIND, slug, title, body, None, None, entries)
            for slug, title, body, entries in lessons.changed()
        ]
        log.log(log.Level.DEBUG, f"{len(batch.entries)} entries, {len(updates)} records")
        return updates


def read(slug):
    try:
        record = memory.get(KIND, slug)
    except Err as error:
        # No entry is to blame for a file that can't be read.
        raise Err(Failure(f"{KIND}/{slug} can't be read: {error.value}", [], True))
    return None if record is None else record.body
