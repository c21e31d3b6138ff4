//! Work in other network namespaces. A netlink socket belongs to the namespace it was opened in for all its life,
//! so most code opens one with [`enter`] and uses it from anywhere.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::route::Route;

/// Runs `work` in the network namespace that `netns` (a `/proc/<pid>/ns/net`, or a bind mount of one) refers to, on
/// a thread of its own, and waits for it.
pub fn enter<T: Send>(netns: impl AsFd, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let netns = netns.as_fd();
    on_thread(move || {
        move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?;
        Ok(work())
    })
}

/// A new network namespace. It lives as long as the descriptor or anything in it.
pub fn create() -> io::Result<OwnedFd> {
    on_thread(|| {
        // deprecated for what it does with UnshareFlags::FILES, which is not asked for here
        #[allow(deprecated)]
        rustix::thread::unshare(UnshareFlags::NEWNET)?;
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    })
}

fn on_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Brings up `lo` in the network namespace at `path`.
pub fn loopback_up(path: &Path) -> io::Result<()> {
    let netns = File::open(path)?;
    enter(netns, || {
        let mut route = Route::open()?;
        let lo = route.link("lo")?.ok_or(io::ErrorKind::NotFound)?;
        Ok::<_, io::Error>(route.set_up(lo.index, true)?)
    })?
}
