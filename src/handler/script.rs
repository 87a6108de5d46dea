//! Whether the script is there that an interpreter is to run. The interpreter would only say so once there is a task.
//!
//! Nobody is told that a handler is missing which works: an option that is not known here may take a value, or turn
//! the next word into something else, and then nothing is said.

use std::ffi::OsStr;
use std::path::Path;

use super::lookup;

/// A program that runs the file that its first argument names.
struct Interpreter {
    /// What it is called, without a version.
    names: &'static [&'static str],
    /// How files end that it runs.
    endings: &'static [&'static str],
    /// The letters of options that take no value and leave the next word what it is.
    flags: &'static str,
    /// How long options of that kind begin.
    long: &'static [&'static str],
    /// Whether it also looks for the file on the `PATH`.
    searches: bool,
}

const INTERPRETERS: [Interpreter; 6] = [
    Interpreter {
        names: &["python", "pypy"],
        endings: &[".py", ".pyz"],
        flags: "bBEIOPqsSuv",
        long: &[],
        searches: false,
    },
    Interpreter {
        names: &["node", "nodejs"],
        endings: &[".js", ".mjs", ".cjs", ".ts", ".mts"],
        flags: "",
        long: &["--no-", "--max-old-space-size=", "--enable-source-maps"],
        searches: false,
    },
    Interpreter {
        names: &["deno"],
        endings: &[".ts", ".mts", ".js", ".mjs"],
        flags: "Aq",
        long: &["--no-", "--allow-"],
        searches: false,
    },
    Interpreter { names: &["php"], endings: &[".php"], flags: "nq", long: &[], searches: false },
    Interpreter { names: &["ruby", "perl"], endings: &[".rb", ".pl"], flags: "w", long: &[], searches: false },
    Interpreter {
        names: &["sh", "bash", "dash", "ksh", "zsh"],
        endings: &[".sh", ".bash", ".ksh", ".zsh"],
        flags: "efuvx",
        long: &[],
        searches: true,
    },
];

/// Whether the script in `words`, a program and its arguments that are run in `dir`, is there, as far as can be told.
/// The error is one line that says which file is missing.
pub(super) fn check(words: &[String], dir: &Path, search: Option<&OsStr>) -> Result<(), String> {
    let Some((program, interpreter, script)) = find(words) else { return Ok(()) };
    let path = lookup::clean(&dir.join(script));
    // A file that cannot be looked at may be there.
    let is_missing = |path: &Path| matches!(path.try_exists(), Ok(false));
    let searches = interpreter.searches && !script.contains('/');
    if is_missing(&path) && !(searches && lookup::on_path(script, dir, search).any(|path| !is_missing(&path))) {
        return Err(format!("no such file: {} (to be run by {program})", path.display()));
    }
    Ok(())
}

/// The name of the program, which must be an interpreter, and the script that it is to run.
fn find(words: &[String]) -> Option<(&str, &'static Interpreter, &str)> {
    let (program, arguments) = words.split_first()?;
    let program = program.rsplit('/').next()?;
    let name = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let interpreter = INTERPRETERS.iter().find(|interpreter| interpreter.names.contains(&name))?;
    let mut arguments = arguments.iter().map(String::as_str).skip_while(|word| name == "deno" && *word == "run");
    let script = arguments.find(|word| !interpreter.leaves_next(word))?;
    let is_file = interpreter.endings.iter().any(|ending| script.ends_with(ending));
    // What has a colon may be an address.
    let is_known = is_file && !script.starts_with('-') && !script.contains(':');
    is_known.then_some((program, interpreter, script))
}

impl Interpreter {
    /// Whether `word` is an option after which the next word is what it would be without it.
    fn leaves_next(&self, word: &str) -> bool {
        let letters = word.strip_prefix('-').unwrap_or_default();
        let are_flags = !letters.is_empty() && letters.chars().all(|letter| self.flags.contains(letter));
        are_flags || self.long.iter().any(|start| word.starts_with(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The script that a command runs, of which it is known.
    fn script(command: &str) -> Option<String> {
        let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        find(&words).map(|(_, _, script)| script.to_owned())
    }

    #[test]
    fn the_script_of_an_interpreter_is_known() {
        for (command, expected) in [
            ("python3 work.py", "work.py"),
            ("/opt/venv/bin/python3.12 -u -OO ./work.py --verbose data.csv", "./work.py"),
            ("node --no-warnings --max-old-space-size=4096 /srv/work.mjs", "/srv/work.mjs"),
            ("php8.2 -n work.php", "work.php"),
            ("bash -eu work.sh", "work.sh"),
            ("perl -w work.pl", "work.pl"),
            ("ruby lib/work.rb", "lib/work.rb"),
            ("deno run -A --allow-net=localhost main.ts", "main.ts"),
            ("deno main.ts", "main.ts"),
        ] {
            assert_eq!(script(command).as_deref(), Some(expected), "{command}");
        }
    }

    #[test]
    fn in_doubt_nothing_is_said() {
        for command in [
            "python3",
            "python3 -m work.py",
            "python3 -c print(1) work.py",
            "python3 -uc print(1) work.py",
            "python3 - work.py",
            "python3 -- work.py",
            "python3 -W ignore work.py",
            "python3 package",
            "node -r setup.js work.js",
            "node --eval=1 work.js",
            "node --import setup.mjs work.mjs",
            "node work",
            "deno test main.ts",
            "deno run https://example.org/main.ts",
            "php -d a=b work.php",
            "php -c php.ini work.php",
            "php phar://work.phar/work.php",
            "ruby -S work.rb",
            "ruby -C elsewhere work.rb",
            "perl -I lib work.pl",
            "sh -s work.sh",
            "sh -c work.sh",
            "bash -o pipefail work.sh",
            "./work.py",
            "env python3 work.py",
            "uv run work.py",
        ] {
            assert_eq!(script(command), None, "{command}");
        }
    }
}
