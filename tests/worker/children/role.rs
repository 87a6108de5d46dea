//! A worker's process that runs one handler: this very program, started again.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use prismq::Handler;
use prismq::internals::handler::{self, Exec, ExecSettings, Listener, kill_orphans, supervise};
use prismq::internals::{CancelToken, claim, run};
use rustix::process::{Pid, getuid};
use serde_json::json;
use tempfile::TempDir;

/// A user that owns nothing.
const NOBODY: u32 = 65534;

/// A token of that name, of this run of the tests: another run at the same time must not end its processes.
pub(crate) fn token(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// A worker that runs the script `handler.sh` of its folder for task 12.
pub(crate) struct Worker {
    pub(crate) folder: TempDir,
    command: Command,
}

impl Worker {
    pub(crate) fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("handler.sh"), script).unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "children::role::a_worker", "--ignored"]).env("WORKER_FOLDER", folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { folder, command }
    }

    /// The same, which answers for its handlers under the [`token`] of this name.
    pub(crate) fn supervising(self, name: &str) -> Self {
        self.env("WORKER_TOKEN", &token(name))
    }

    /// The same with a variable more.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// The same as a user without rights, where we may choose.
    pub(crate) fn without_rights(mut self) -> Self {
        if getuid().is_root() {
            // The program must be where that user may go.
            let program = self.path("worker");
            fs::copy(env::current_exe().unwrap(), &program).unwrap();
            fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
            chown(self.folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            let mut command = Command::new(program);
            command.args(self.command.get_args()).current_dir(self.folder.path()).uid(NOBODY).gid(NOBODY);
            self.replace(command);
        }
        self
    }

    /// The same in the place of a shell that has run `script` before, in the worker's folder.
    pub(crate) fn in_place_of_a_shell(mut self, script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{script}\nexec \"$0\" \"$@\"")]).current_dir(self.folder.path());
        command.arg(self.command.get_program()).args(self.command.get_args());
        self.replace(command);
        self
    }

    /// Starts by `command`, with the same environment.
    fn replace(&mut self, mut command: Command) {
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.command = command;
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn start(&mut self) -> Running {
        Running(self.spawn())
    }

    pub(crate) fn run(&mut self) -> ExitStatus {
        self.spawn().wait().unwrap()
    }

    /// A copied program is busy while a child that another test has just forked has not let go of its descriptors.
    fn spawn(&mut self) -> Child {
        loop {
            match self.command.spawn() {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => thread::yield_now(),
                spawned => return spawned.unwrap(),
            }
        }
    }
}

/// A worker that runs. Dropping it kills it.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
#[ignore = "no test, but what other tests start"]
fn a_worker() {
    let Some(folder) = env::var_os("WORKER_FOLDER") else { return };
    if let Ok(token) = env::var("WORKER_TOKEN") {
        supervise(&token).unwrap();
        read_what_is_told_of_us();
    }
    if let Ok(token) = env::var("WORKER_ENDS_LEFTOVERS_OF") {
        assert_eq!(kill_orphans(|dead| dead == token), []);
    }
    run_handler(Path::new(&folder));
}

/// It must stay readable to ourselves, for the worker's health.
fn read_what_is_told_of_us() {
    for file in ["stat", "statm", "status", "limits"] {
        fs::read(Path::new("/proc/self").join(file)).unwrap();
    }
    assert!(fs::read_dir("/proc/self/fd").unwrap().count() > 2);
}

fn run_handler(folder: &Path) {
    struct Deaf;
    impl Listener for Deaf {
        fn progress(&self, _: u8, _: Option<&str>) {}
        fn stderr_line(&self, _: &str) {}
    }
    let exec = Exec::new(ExecSettings {
        command: handler::ExecCommand::Program(["sh", "handler.sh"].map(String::from).to_vec()),
        dir: folder.to_owned(),
        env: [].into(),
        pass_env: Vec::new(),
        clean_env: true,
        secrets: Vec::new(),
    });
    let stop = CancelToken::new(None);
    let run = run(Duration::from_secs(60), &stop, &Deaf);
    let failure = exec.run(&claim(12, "example.any", json!({})), &run).failure;
    assert_eq!(failure, None);
}
