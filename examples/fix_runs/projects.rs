//! Small projects whose tests fail because of one wrong line.

/// A project whose tests fail.
pub(crate) struct BrokenProject {
    /// The program that its tests need.
    pub(crate) program: &'static str,
    /// The paths and contents of its files.
    pub(crate) files: &'static [(&'static str, &'static str)],
    /// The command that runs the tests.
    pub(crate) test: &'static str,
}

const SUM: &str = "echo $(($1 - $2))\n";
const SUM_TEST: &str = "[ \"$(sh sum.sh 2 3)\" = 5 ] || { echo \"2 + 3 is not 5\"; exit 1; }\n";
const CALC: &str = "def mean(numbers):\n    return sum(numbers) / (len(numbers) - 1)\n";
const CALC_TEST: &str = "import unittest\n\nfrom calc import mean\n\n\nclass Mean(unittest.TestCase):\n    def test_mean(self):\n        self.assertEqual(mean([1, 2, 3]), 2)\n";
const SLUG: &str = "module.exports = (title) => title.toLowerCase().replace(\" \", \"-\");\n";
const SLUG_TEST: &str = "const assert = require(\"assert\");\nconst slug = require(\"./slug.js\");\nassert.strictEqual(slug(\"A b C\"), \"a-b-c\");\n";
const MAX: &str = "int max(int a, int b) { return a < b ? a : b; }\n";
const MAX_TEST: &str = "#include <stdio.h>\n\nint max(int, int);\n\nint main(void) {\n    if (max(2, 3) == 3 && max(3, 2) == 3) return 0;\n    printf(\"max(2, 3) is %d, expected 3\\n\", max(2, 3));\n    return 1;\n}\n";
const TOTAL: &str = "{ total += $1 }\nEND { print total }\n";
const TOTAL_TEST: &str = "total=$(printf 'a 1\\nb 2\\n' | awk -f lib/total.awk)\n[ \"$total\" = 3 ] || { echo \"the total of the second column is $total, expected 3\"; exit 1; }\n";

/// The projects, each in another language.
pub(crate) const BROKEN_PROJECTS: [BrokenProject; 5] = [
    BrokenProject { program: "sh", files: &[("sum.sh", SUM), ("test.sh", SUM_TEST)], test: "sh test.sh" },
    BrokenProject {
        program: "python3",
        files: &[("calc.py", CALC), ("test_calc.py", CALC_TEST)],
        test: "python3 -B -m unittest -q",
    },
    BrokenProject { program: "node", files: &[("slug.js", SLUG), ("test.js", SLUG_TEST)], test: "node test.js" },
    BrokenProject {
        program: "gcc",
        files: &[("max.c", MAX), ("main.c", MAX_TEST)],
        test: "gcc -o \"$TMPDIR/main\" max.c main.c && \"$TMPDIR/main\"",
    },
    BrokenProject { program: "awk", files: &[("lib/total.awk", TOTAL), ("test.sh", TOTAL_TEST)], test: "sh test.sh" },
];
