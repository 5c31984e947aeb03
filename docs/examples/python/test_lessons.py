import json
import unittest

from lessons import Lessons, lines, slug

FAILED = {"attempts": [{"action": "a\n# b", "result": "c", "succeeded": False}]}


class Test(unittest.TestCase):
    def run_on(self, memory, *payloads):
        lessons = Lessons(memory.get)
        for number, payload in enumerate(payloads):
            lessons.add(f"id-{number}", "boat/1", json.dumps(payload))
        return list(lessons.changed())

    def test_failed_attempt_becomes_one_line(self):
        changed = self.run_on({}, FAILED, FAILED)
        self.assertEqual(changed, [("boat", "What did not work: boat", "- tried: a # b; but: c\n", ["id-0"])])

    def test_text_of_people_stays(self):
        self.assertEqual(self.run_on({"boat": "by hand"}, FAILED)[0][1:3], (None, "by hand\n- tried: a # b; but: c\n"))

    def test_known_line_is_no_update(self):
        self.assertEqual(self.run_on({"boat": "- tried: a # b; but: c\r\nmore"}, FAILED), [])

    def test_unexpected_payload_is_passed_over(self):
        for attempts in (None, 7, [None], [{"succeeded": True}]):
            self.assertEqual(list(lines({"attempts": attempts})), [])
        with self.assertRaises(ValueError):
            self.run_on({}, [])

    def test_other_texts_have_other_slugs(self):
        self.assertEqual(slug("boat"), "boat")
        texts = ["boat", "Boat", "boat!", "böat", "", "日本", "x" * 99, "x" * 98, slug("Boat")]
        slugs = {slug(text) for text in texts}
        self.assertEqual(len(slugs), len(texts))
        for name in slugs:
            self.assertRegex(name, "^[a-z0-9][a-z0-9-]{0,63}$")


if __name__ == "__main__":
    unittest.main()
