//! What the loop waits for.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{CONNECTIONS_MAX, EventLoop, Source, now};
use crate::log::Stream;

impl EventLoop {
    /// Waits until something is ready or the pod's next deadline has come.
    pub(super) fn ready(&self) -> Result<Vec<Source>, Errno> {
        let interests = self.interests();
        let mut fds: Vec<PollFd<'_>> =
            interests.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        match poll(&mut fds, self.patience().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        Ok(interests
            .into_iter()
            .zip(ready)
            .filter(|(_, ready)| *ready)
            .map(|((source, ..), _)| source)
            .collect())
    }

    fn interests(&self) -> Vec<(Source, BorrowedFd<'_>, PollFlags)> {
        let mut interests = vec![(Source::Children, self.child_signal.as_fd(), PollFlags::IN)];
        if self.clients.len() < CONNECTIONS_MAX && self.deaf_until.is_none() {
            interests.push((Source::Listener, self.listener.as_fd(), PollFlags::IN));
        }
        for (container, streams) in &self.streams {
            for stream in [Stream::Stdout, Stream::Stderr] {
                let output = streams
                    .output(stream)
                    .map(|fd| (Source::Output(container.clone(), stream), fd, PollFlags::IN));
                interests.extend(output);
            }
            interests
                .extend(streams.input().map(|fd| (Source::Input(container.clone()), fd, PollFlags::OUT)));
            let clients = streams.client_inputs();
            interests.extend(
                clients.map(|(conn, fd)| (Source::ClientInput(container.clone(), conn), fd, PollFlags::IN)),
            );
        }
        let dialing = self.dialing.iter();
        interests.extend(
            dialing.map(|(conn, dialing)| (Source::Dialing(*conn), dialing.socket.as_fd(), PollFlags::OUT)),
        );
        let clients = self.clients.iter();
        interests.extend(
            clients.map(|(conn, client)| (Source::Client(*conn), client.socket.as_fd(), PollFlags::IN)),
        );
        interests
    }

    fn patience(&self) -> Option<Timespec> {
        let next = self.pod.wake_at().into_iter().chain(self.deaf_until).min()?;
        let left = next.saturating_sub(now().uptime);
        Timespec::try_from(left).ok()
    }
}
