//! What the cluster's keys are at a time, and what of them is to be made anew.

use std::time::Duration;

use jiff::Timestamp;

use crate::certificate::{self, Certificate, Issuer, Names, Purpose, subject};
use crate::csr::{Csr, Signer, validity};
use crate::key::{Key, pem};
use crate::{Error, Identity};

const DAY: i64 = 24 * 3600;
const YEAR: i64 = 365 * DAY;
/// How long an authority, a certificate of ours and a signing key of tokens are used.
const AUTHORITY_LIFE: i64 = 10 * YEAR;
const LEAF_LIFE: i64 = YEAR;
const TOKEN_KEY_LIFE: i64 = YEAR;
/// How many authorities, and how many token keys, are trusted: the one in use and those before it. By number and not by
/// age, so that a clock which leaps ahead and comes back takes nobody's trust away.
const TRUSTED: usize = 4;
/// When less than this is left of an authority's life, a new one is trusted beside it, so that every client learns of
/// the new one before anything is signed with it.
const SUCCESSION: i64 = 2 * YEAR;
/// When less than this is left, the new one signs.
const HANDOVER: i64 = YEAR;
/// Our certificates begin before the clock's time, for clients whose clocks are behind.
const EARLY: i64 = 3600;
/// 2020 and 2026, in seconds since 1970. An authority made while the clock stood at its factory setting is good today,
/// and one made today is good when the clock falls back there.
const LONG_AGO: i64 = 1_577_836_800;
const LATELY: i64 = 1_767_225_600;

/// All keys.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// The newest first. All are trusted.
    pub(crate) authorities: Vec<Leaf>,
    /// Which of them signs.
    signer: usize,
    pub(crate) serving: Leaf,
    pub(crate) admin: Leaf,
    /// The one that signs first.
    pub(crate) tokens: Vec<TokenKey>,
}

/// A certificate in PEM, and its key.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) certificate: String,
    pub(crate) key: Key,
}

/// A key that signs tokens.
#[derive(Debug, Clone)]
pub(crate) struct TokenKey {
    pub(crate) key: Key,
    pub(crate) created: Timestamp,
}

impl Leaf {
    pub(crate) fn identity(&self) -> Identity {
        Identity { certificate: self.certificate.clone(), key: self.key.pem() }
    }
}

impl State {
    /// What is kept, with everything made that is missing or due; and whether anything was.
    pub(crate) fn renew(kept: Option<Kept>, names: &Names, now: Timestamp) -> Result<(Self, bool), Error> {
        let mut changed = false;
        let kept = kept.unwrap_or_default();
        let mut authorities = Vec::new();
        for authority in kept.authorities {
            let read = Certificate::from_pem(&authority.certificate)?;
            authorities.push((authority, read));
        }
        if authorities.first().is_none_or(|(_, first)| left(first, now) < SUCCESSION) {
            let new = new_authority(now)?;
            let read = Certificate::from_pem(&new.certificate)?;
            authorities.insert(0, (new, read));
            authorities.truncate(TRUSTED);
            changed = true;
        }
        // The oldest that still has time: clients have known it the longest.
        let fit = |read: &Certificate| read.not_before <= now && left(read, now) >= HANDOVER;
        let signer = authorities.iter().rposition(|(_, read)| fit(read)).unwrap_or(0);
        let (authority, read) = &authorities[signer];
        let issuer = Issuer { subject: &read.subject, key: &authority.key };
        let mut leaf = |kept: Option<Leaf>, purpose, subject: Vec<u8>, names: &Names| {
            let good = |leaf: &Leaf| is_good(leaf, authority, names, now);
            match kept.filter(good) {
                Some(leaf) => Ok(leaf),
                None => {
                    changed = true;
                    new_leaf(&issuer, read.not_after, purpose, &subject, names, now)
                }
            }
        };
        let serving = leaf(kept.serving, Purpose::Server, subject("kube-apiserver", []), names)?;
        let admin = subject("kubernetes-admin", ["system:masters"]);
        let admin = leaf(kept.admin, Purpose::Client, admin, &Names::default())?;
        let tokens = renew_tokens(kept.tokens, now, &mut changed)?;
        let authorities = authorities.into_iter().map(|(authority, _)| authority).collect();
        Ok((Self { authorities, signer, serving, admin, tokens }, changed))
    }

    /// The certificates of all authorities: that of the one that signs first.
    pub(crate) fn bundle(&self) -> String {
        let others = self.authorities.iter().enumerate().filter(|(i, _)| *i != self.signer).map(|(_, a)| a);
        std::iter::once(self.signer()).chain(others).map(|a| a.certificate.as_str()).collect()
    }

    fn signer(&self) -> &Leaf {
        &self.authorities[self.signer]
    }

    pub(crate) fn token_key(&self) -> &TokenKey {
        &self.tokens[0]
    }

    pub(crate) fn token_keys(&self) -> impl Iterator<Item = &Key> {
        self.tokens.iter().map(|t| &t.key)
    }

    pub(crate) fn sign(
        &self,
        csr: &Csr,
        signer: Signer,
        asked: Option<Duration>,
        now: Timestamp,
    ) -> Result<String, Error> {
        let authority = self.signer();
        let read = Certificate::from_pem(&authority.certificate)?;
        let (not_before, not_after) = validity(now, asked, read.not_after);
        let request = certificate::Request {
            subject: &csr.subject,
            spki: &csr.spki,
            names: &csr.names,
            purpose: signer.purpose(),
            encipher: true,
            not_before,
            not_after,
        };
        let issuer = Issuer { subject: &read.subject, key: &authority.key };
        Ok(pem("CERTIFICATE", &certificate::issue(&request, &issuer)?))
    }

    pub(crate) fn issue_client(&self, user: &str, groups: &[&str], now: Timestamp) -> Result<Leaf, Error> {
        let authority = self.signer();
        let read = Certificate::from_pem(&authority.certificate)?;
        let issuer = Issuer { subject: &read.subject, key: &authority.key };
        let subject = subject(user, groups.iter().copied());
        new_leaf(&issuer, read.not_after, Purpose::Client, &subject, &Names::default(), now)
    }
}

/// What a file holds: anything but the authorities may be missing, as when they were copied from another machine.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) authorities: Vec<Leaf>,
    pub(crate) serving: Option<Leaf>,
    pub(crate) admin: Option<Leaf>,
    pub(crate) tokens: Vec<TokenKey>,
}

impl From<State> for Kept {
    fn from(state: State) -> Self {
        let State { authorities, signer: _, serving, admin, tokens } = state;
        Self { authorities, serving: Some(serving), admin: Some(admin), tokens }
    }
}

/// Seconds until a certificate ends.
fn left(certificate: &Certificate, now: Timestamp) -> i64 {
    certificate.not_after.as_second() - now.as_second()
}

/// Whether a certificate of ours is signed by the authority in use, names what it should, and is neither too young for
/// a clock that fell back nor in the last third of its life.
fn is_good(leaf: &Leaf, authority: &Leaf, names: &Names, now: Timestamp) -> bool {
    let Ok(read) = Certificate::from_pem(&leaf.certificate) else { return false };
    let life = read.not_after.as_second() - read.not_before.as_second();
    read.spki == leaf.key.spki()
        && read.names == *names
        && certificate::is_issued_by(&leaf.certificate, &authority.key)
        && read.not_before <= now
        && left(&read, now) > life / 3
}

fn new_authority(now: Timestamp) -> Result<Leaf, Error> {
    let key = Key::generate()?;
    // Two authorities of one name would be confused by readers that look for the issuer by its name.
    let subject = subject(&format!("cleat-ca@{}", now.as_nanosecond()), []);
    let seconds = now.as_second();
    let request = certificate::Request {
        subject: &subject,
        spki: &key.spki(),
        names: &Names::default(),
        purpose: Purpose::Authority,
        encipher: false,
        not_before: at((seconds - DAY).min(LONG_AGO)),
        not_after: at(seconds.max(LATELY) + AUTHORITY_LIFE),
    };
    let der = certificate::issue(&request, &Issuer { subject: &subject, key: &key })?;
    Ok(Leaf { certificate: pem("CERTIFICATE", &der), key })
}

fn new_leaf(
    issuer: &Issuer<'_>,
    end: Timestamp,
    purpose: Purpose,
    subject: &[u8],
    names: &Names,
    now: Timestamp,
) -> Result<Leaf, Error> {
    let key = Key::generate()?;
    let request = certificate::Request {
        subject,
        spki: &key.spki(),
        names,
        purpose,
        encipher: false,
        not_before: at(now.as_second() - EARLY),
        not_after: at(now.as_second() + LEAF_LIFE).min(end),
    };
    Ok(Leaf { certificate: pem("CERTIFICATE", &certificate::issue(&request, issuer)?), key })
}

/// A new token key when the one in use is a year old.
fn renew_tokens(
    mut tokens: Vec<TokenKey>,
    now: Timestamp,
    changed: &mut bool,
) -> Result<Vec<TokenKey>, Error> {
    let age = |token: &TokenKey| now.as_second() - token.created.as_second();
    if tokens.first().is_none_or(|first| age(first) >= TOKEN_KEY_LIFE) {
        tokens.insert(0, TokenKey { key: Key::generate()?, created: at(now.as_second()) });
        tokens.truncate(TRUSTED);
        *changed = true;
    }
    Ok(tokens)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
