//! Checks before the first task whether the script of an interpreter exists.
//!
//! Never rejects a handler that works: if the command has an option that is not known here, it is not checked, since
//! the option may take the next argument as its value.

use std::ffi::OsStr;
use std::path::Path;

use super::lookup;

/// A program that runs the script named by its first argument.
struct Interpreter {
    /// Names of the program, without a version.
    names: &'static [&'static str],
    /// File extensions of its scripts.
    endings: &'static [&'static str],
    /// Short options without a value.
    flags: &'static str,
    /// Prefixes of long options without a separate value.
    long: &'static [&'static str],
    /// Whether it also looks for the script on the `PATH`.
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

/// Checks that the script in `words`, a command that is run in `dir`, exists. The error is one line that names the
/// missing file.
pub(super) fn check(words: &[String], dir: &Path, search: Option<&OsStr>) -> Result<(), String> {
    let Some((program, interpreter, script)) = find(words) else { return Ok(()) };
    let path = lookup::clean(&dir.join(script));
    // If access fails, the file may exist.
    let is_missing = |path: &Path| matches!(path.try_exists(), Ok(false));
    let searches = interpreter.searches && !script.contains('/');
    if is_missing(&path) && !(searches && lookup::on_path(script, dir, search).any(|path| !is_missing(&path))) {
        return Err(format!("no such file: {} (to be run by {program})", path.display()));
    }
    Ok(())
}

/// Returns the name of the program, its interpreter, and the script that it runs.
fn find(words: &[String]) -> Option<(&str, &'static Interpreter, &str)> {
    let (program, arguments) = words.split_first()?;
    let program = program.rsplit('/').next()?;
    let name = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let interpreter = INTERPRETERS.iter().find(|interpreter| interpreter.names.contains(&name))?;
    let mut arguments = arguments.iter().map(String::as_str).skip_while(|word| name == "deno" && *word == "run");
    let script = arguments.find(|word| !interpreter.is_plain_flag(word))?;
    let is_file = interpreter.endings.iter().any(|ending| script.ends_with(ending));
    // With a colon, it may be a URL.
    let is_known = is_file && !script.starts_with('-') && !script.contains(':');
    is_known.then_some((program, interpreter, script))
}

impl Interpreter {
    /// Whether `word` is an option that takes no value.
    fn is_plain_flag(&self, word: &str) -> bool {
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
