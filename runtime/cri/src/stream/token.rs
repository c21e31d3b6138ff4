//! One-time tokens: what a streaming URL stands for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto_cri::{AttachRequest, ExecRequest, PortForwardRequest};
use tokio::time::Instant;
use tonic::Status;

const LIFE: Duration = Duration::from_secs(60);
const OPEN_MAX: usize = 1000;
/// Too many to guess within a token's life.
const RANDOM_BYTES: usize = 16;

/// What a client may do with a token.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    Exec(ExecRequest),
    Attach(AttachRequest),
    PortForward(PortForwardRequest),
}

/// The tokens given out and not used yet.
#[derive(Default)]
pub(super) struct Tokens(Mutex<Open>);

#[derive(Default)]
struct Open {
    requests: HashMap<String, Request>,
    /// Oldest first; holds used ones until their time.
    expiry: VecDeque<(Instant, String)>,
}

impl Open {
    fn expire(&mut self, now: Instant) {
        while let Some((due, token)) = self.expiry.pop_front_if(|(due, _)| *due <= now) {
            debug_assert!(due <= now);
            self.requests.remove(&token);
        }
    }
}

impl Tokens {
    /// A token for a request.
    pub(super) fn insert(&self, request: Request) -> Result<String, Status> {
        let mut random = [0; RANDOM_BYTES];
        let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        if filled != Ok(RANDOM_BYTES) {
            return Err(Status::internal("the kernel gave no random bytes for a streaming token"));
        }
        let token = URL_SAFE_NO_PAD.encode(random);
        let now = Instant::now();
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.expire(now);
        if open.requests.len() >= OPEN_MAX {
            return Err(Status::resource_exhausted(
                "1000 streaming URLs are open and unused; try again in a minute",
            ));
        }
        open.requests.insert(token.clone(), request);
        open.expiry.push_back((now + LIFE, token.clone()));
        Ok(token)
    }

    /// The request of a token that is fresh and unused. From now on it is used.
    pub(super) fn take(&self, token: &str) -> Option<Request> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.expire(Instant::now());
        let request = open.requests.remove(token)?;
        open.expiry.retain(|(_, known)| known != token);
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request::Exec(ExecRequest::default())
    }

    #[tokio::test(start_paused = true)]
    async fn good_once_and_for_a_minute() {
        let tokens = Tokens::default();
        let (once, late) = (tokens.insert(request()).unwrap(), tokens.insert(request()).unwrap());
        assert_ne!(once, late);
        assert_eq!(tokens.take(&once), Some(request()));
        assert_eq!(tokens.take(&once), None);
        tokio::time::advance(LIFE).await;
        assert_eq!(tokens.take(&late), None);
    }

    #[tokio::test(start_paused = true)]
    async fn bounded() {
        let tokens = Tokens::default();
        let first = tokens.insert(request()).unwrap();
        for _ in 1..OPEN_MAX {
            tokens.insert(request()).unwrap();
        }
        assert_eq!(tokens.insert(request()).unwrap_err().code(), tonic::Code::ResourceExhausted);
        tokens.take(&first).unwrap();
        tokens.insert(request()).unwrap();
        tokio::time::advance(LIFE).await;
        tokens.insert(request()).unwrap();
        assert_eq!(tokens.0.lock().unwrap().expiry.len(), 1);
    }
}
