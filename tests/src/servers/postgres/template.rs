//! The data folder of a new postgres, made once for each version on a machine: `initdb` takes far longer than unpacking
//! what it made.
//!
//! It is one file in the system's temporary folder, so that it is there as a whole or not at all.

use std::{
    env, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use super::{PostgresKind, User};

impl PostgresKind {
    /// Makes `data` in a folder.
    pub(super) fn unpack_template(&self, folder: &Path) {
        let mut tar = Command::new("tar");
        tar.arg("-xf").arg(self.template()).arg("-C").arg(folder);
        self.run(folder, tar);
    }

    fn template(&self) -> PathBuf {
        static MAKING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut version = Command::new(self.programs.join("postgres"));
        version.arg("--version");
        let version = self.run(Path::new("/"), version);
        // It says `postgres (PostgreSQL) 15.4 (Debian 15.4-1)`.
        let version = version.split_whitespace().nth(2).expect("a postgres says its version");
        let uid = self.user.map_or_else(|| rustix::process::geteuid().as_raw(), |User { uid, .. }| uid);
        let template = env::temp_dir().join(format!("evented-tests-postgres-{version}-{uid}.tar"));
        match fs::metadata(&template) {
            Ok(found) => assert!(found.uid() == uid, "{} is another user's: remove it", template.display()),
            Err(_) => self.make_template(&template),
        }
        template
    }

    fn make_template(&self, template: &Path) {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        self.give(folder.path());
        let mut initdb = Command::new(self.programs.join("initdb"));
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        initdb.args(["-D", "data"]);
        self.run(folder.path(), initdb);
        let mut tar = Command::new("tar");
        tar.args(["-cf", "template.tar", "data"]);
        self.run(folder.path(), tar);
        // Of two processes that make it at once, the last wins, and neither sees half of it.
        fs::rename(folder.path().join("template.tar"), template).expect("it stays on one file system");
    }

    /// Runs a command as the server's user, in a folder: what it prints.
    fn run(&self, folder: &Path, command: Command) -> String {
        let mut command = self.as_user(command);
        command.current_dir(folder);
        let done = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{command:?} ended with {}: {said}", done.status);
        String::from_utf8_lossy(&done.stdout).into_owned()
    }
}
