"""What did not work: one record for each project, with a line for each attempt that failed.

The project is the segment's first part, `lighthouse` of `lighthouse/flaky-tide-table/1`. The rules are in
plain functions that know nothing of WebAssembly, so that `python3 -m unittest` tests them (test_lessons.py);
app.py connects them to the host.
"""

import hashlib
import json
import re
import unicodedata

KIND = "lesson"


def project(segment_id):
    return one_line(segment_id.split("/")[0]) or "unnamed"


def slug(text):
    """`[a-z0-9][a-z0-9-]{0,63}`; other texts have other slugs, so one that loses something gets a hash."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.sub("[^a-z0-9]+", "-", plain).strip("-")
    if words and words == text and len(words) <= 40 and not re.search("(^|-)[0-9a-f]{16}$", words):
        return words
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{words[:40].strip('-')}-{digest}".lstrip("-")


def lines(payload):
    """A line of Markdown for each attempt that failed. What isn't as expected is passed over."""
    attempts = payload.get("attempts")
    for attempt in attempts if isinstance(attempts, list) else []:
        if isinstance(attempt, dict) and attempt.get("succeeded") is False:
            yield f"- tried: {one_line(attempt.get('action'))}; but: {one_line(attempt.get('result'))}"


def one_line(text):
    """A line break in a text could begin a heading or a rule."""
    return " ".join(str(text).split())


class Lessons:
    """The records that a batch touches. `read(slug)` gives the body of a record, or None if there is none."""

    def __init__(self, read):
        self.read = read
        self.titles, self.bodies, self.entries = {}, {}, {}

    def add(self, entry_id, segment_id, text):
        """Raises ValueError if the text is no JSON object."""
        payload = json.loads(text)
        if not isinstance(payload, dict):
            raise ValueError("it is no JSON object")
        for line in lines(payload):
            name = project(segment_id)
            self.append(slug(name), f"What did not work: {name}", line, entry_id)

    def append(self, record, title, line, entry_id):
        if record not in self.bodies:
            body = self.read(record)
            self.titles[record] = title if body is None else None
            self.bodies[record] = body or ""
        body = self.bodies[record]
        # People edit the body, and an entry may come twice: add what isn't there, change nothing else.
        if line in body.splitlines():
            return
        if body and not body.endswith("\n"):
            body += "\n"
        self.bodies[record] = f"{body}{line}\n"
        entries = self.entries.setdefault(record, [])
        if entry_id not in entries:
            entries.append(entry_id)

    def changed(self):
        """(slug, title or None, body, entries) of each record that has something new."""
        for record, entries in self.entries.items():
            yield record, self.titles[record], self.bodies[record], entries
