//! Certificates are renewed when some four fifths of their time are over.

use std::path::Path;
use std::time::Duration;

use client::Client;
use jiff::{SignedDuration, Timestamp};
use pki::{Certificate, Names};

use super::{IdentityFailed, NodeIdentity, ServingCertificate, bootstrap};
use crate::clock::Clock;

/// How long a request waits for its answer.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// How far signers date certificates back, for clocks that differ.
const DATED_BACK: SignedDuration = SignedDuration::from_mins(5);
/// How often the clock is looked at: it may jump.
const LOOK: Duration = Duration::from_secs(600);
/// The first and the longest pause after a failure.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(300);

/// When a certificate is to be renewed: after 70 to 90 hundredths of its time. Which is its own: many nodes of one age do
/// not come all at once, and a restart does not change it.
fn renew_at(certificate: &Certificate, own: u8) -> Timestamp {
    let Certificate { not_before, not_after, .. } = certificate;
    // A short one would be past its time at once if it began where it is dated back to.
    let begin = not_before.checked_add(DATED_BACK).ok().filter(|at| at < not_after).unwrap_or(*not_before);
    let life = not_after.duration_since(begin).as_secs().max(0);
    let part = life * (700 + i64::from(own) * 200 / 255) / 1000;
    begin.checked_add(SignedDuration::from_secs(part)).unwrap_or(*not_after)
}

/// Waits until a certificate is to be renewed; returns when it ends. One that cannot be read is to be renewed now.
async fn due(pem: &str, clock: Clock) -> Timestamp {
    let Ok(certificate) = Certificate::from_pem(pem) else { return Timestamp::MIN };
    let own = pem.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    let at = renew_at(&certificate, own);
    loop {
        let left = Duration::try_from(at.duration_since(clock.now())).unwrap_or_default();
        if left.is_zero() {
            return certificate.not_after;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Keeps the node's own certificate young, for ever.
pub(crate) async fn renew_client(identity: NodeIdentity, client: Client, clock: Clock) {
    let mut pause = AGAIN_MIN;
    loop {
        let until = due(&read(&identity.pem()), clock).await;
        match renew(&identity, &client, until <= clock.now()).await {
            Ok(()) => {
                tracing::info!(node = identity.node, "the node's certificate is renewed");
                pause = AGAIN_MIN;
            }
            Err(failed) => {
                let failed = crate::effect::chain(&failed);
                tracing::error!("the node's certificate, good until {until}, could not be renewed: {failed}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN_MAX);
            }
        }
    }
}

async fn renew(identity: &NodeIdentity, client: &Client, expired: bool) -> Result<(), IdentityFailed> {
    let NodeIdentity { dir, node, .. } = identity;
    if expired {
        let Some(join) = &identity.again else {
            let until = Certificate::from_pem(&read(&identity.pem())).map_or(Timestamp::MIN, |c| c.not_after);
            return Err(IdentityFailed::Expired { path: dir.clone(), until });
        };
        bootstrap(dir, join).await?;
    } else {
        let pem = super::ask(dir, node, PATIENCE).sign(client).await?;
        pki::replace(&identity.pem(), pem.as_bytes(), 0o600).map_err(|e| super::kept(dir, e))?;
    }
    if let Ok(authority) = std::fs::read_to_string(dir.join("ca.crt")) {
        identity.authority.send_if_modified(|known| std::mem::replace(known, authority.clone()) != authority);
    }
    let pem = read(&identity.pem());
    Ok(identity.credentials.replace(pem.as_bytes(), pem.as_bytes())?)
}

/// Keeps the certificate of the kubelet's API young, for ever; the first one is asked for at once.
pub(crate) async fn renew_serving(
    serving: ServingCertificate,
    (node, names): (&str, Names),
    client: Client,
    clock: Clock,
) {
    let mut pause = AGAIN_MIN;
    loop {
        due(&serving.of(&names), clock).await;
        let result = match serving.ask(node, &names, PATIENCE).sign(&client).await {
            Ok(pem) => serving.keep(&pem),
            Err(failed) => Err(failed.into()),
        };
        match result {
            Ok(()) => {
                tracing::info!("the certificate of the kubelet's API is signed");
                pause = AGAIN_MIN;
            }
            Err(failed) => {
                let failed = crate::effect::chain(&failed);
                tracing::warn!("the certificate of the kubelet's API is not signed: {failed}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN_MAX);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_spread() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let pki = pki::Pki::open(None, Names::default(), now).unwrap();
        let key = pki::Key::generate().unwrap();
        let request = pki::request(&key, "system:node:n", &["system:nodes"], &Names::default()).unwrap();
        let csr = pki::Csr::from_pem(request.as_bytes()).unwrap();
        for seconds in [60, 3600, 365 * 24 * 3600] {
            let life = Duration::from_secs(seconds);
            let pem = pki.sign(&csr, pki::Signer::KubeletClient, Some(life), now).unwrap();
            let certificate = Certificate::from_pem(&pem).unwrap();
            let part =
                |own| renew_at(&certificate, own).duration_since(now).as_secs_f64() / life.as_secs_f64();
            assert!((part(0) - 0.7).abs() < 0.02 && (part(255) - 0.9).abs() < 0.02, "{seconds} s");
        }
    }
}
