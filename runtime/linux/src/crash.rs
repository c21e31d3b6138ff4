//! Crash points: named places where a test can have the process killed, to show that what was begun is finished
//! or undone by the next start. Release builds contain none.

/// The environment variable that names the point to die at.
pub const VARIABLE: &str = "CLEAT_CRASH_AT";

/// Kills this process with `SIGKILL` if `CLEAT_CRASH_AT` names this point. Does nothing in release builds.
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    {
        static NAMED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        if NAMED.get_or_init(|| std::env::var(VARIABLE).ok()).as_deref() == Some(name) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
    #[cfg(not(debug_assertions))]
    let _ = name;
}
