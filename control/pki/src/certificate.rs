//! Issuing and reading certificates.

use std::net::IpAddr;

use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};

use crate::der::{self, BOOLEAN, INTEGER, OCTETS, SEQUENCE, SET, UTF8, element, join, oid};
use crate::key::{Key, digest};
use crate::{Error, key};

pub(crate) const ECDSA_SHA256: &[u64] = &[1, 2, 840, 10045, 4, 3, 2];
const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
const ORGANIZATION: &[u64] = &[2, 5, 4, 10];
const SUBJECT_KEY_ID: &[u64] = &[2, 5, 29, 14];
const KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const ALTERNATIVE_NAME: &[u64] = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];
const AUTHORITY_KEY_ID: &[u64] = &[2, 5, 29, 35];
const EXTENDED_USAGE: &[u64] = &[2, 5, 29, 37];
const SERVER_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];

/// Bits of the key usage.
const DIGITAL_SIGNATURE: u8 = 0;
const KEY_ENCIPHERMENT: u8 = 2;
const CERT_SIGN: u8 = 5;
const CRL_SIGN: u8 = 6;

/// What a certificate is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To sign others.
    Authority,
    /// To serve.
    Server,
    /// To prove who asks.
    Client,
}

/// Names and addresses that a server answers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Host names.
    pub dns: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
}

impl Names {
    /// Sorts texts into addresses and host names; each once.
    pub fn new<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        let mut names = Self::default();
        for text in texts {
            match text.as_ref().parse() {
                Ok(ip) => names.ips.push(ip),
                Err(_) => names.dns.push(text.as_ref().to_owned()),
            }
        }
        names.dns.sort();
        names.dns.dedup();
        names.ips.sort();
        names.ips.dedup();
        names
    }
}

/// A certificate to be issued.
pub(crate) struct Request<'a> {
    /// A DER name, see [`subject`].
    pub(crate) subject: &'a [u8],
    /// The `SubjectPublicKeyInfo` that is certified.
    pub(crate) spki: &'a [u8],
    pub(crate) names: &'a Names,
    pub(crate) purpose: Purpose,
    /// Whether the key may also encipher keys, which RSA servers need.
    pub(crate) encipher: bool,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

/// Who signs: a name and a key.
pub(crate) struct Issuer<'a> {
    pub(crate) subject: &'a [u8],
    pub(crate) key: &'a Key,
}

/// A DER name of a user and its groups.
pub(crate) fn subject<'a>(common_name: &str, organizations: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let part =
        |kind: &[u64], text: &str| join(SET, &[join(SEQUENCE, &[oid(kind), element(UTF8, text.as_bytes())])]);
    let mut parts: Vec<_> = organizations.into_iter().map(|o| part(ORGANIZATION, o)).collect();
    parts.push(part(COMMON_NAME, common_name));
    join(SEQUENCE, &parts)
}

/// Signs a certificate; the result is DER.
pub(crate) fn issue(request: &Request<'_>, issuer: &Issuer<'_>) -> Result<Vec<u8>, Error> {
    let mut serial = [0_u8; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| Error::Random)?;
    // Positive, and never shorter than its bytes.
    serial[0] = serial[0] & 0x3f | 0x40;
    let algorithm = join(SEQUENCE, &[oid(ECDSA_SHA256)]);
    let body = join(
        SEQUENCE,
        &[
            element(0xa0, &element(INTEGER, &[2])),
            element(INTEGER, &serial),
            algorithm.clone(),
            issuer.subject.to_vec(),
            join(SEQUENCE, &[der::time(request.not_before), der::time(request.not_after)]),
            request.subject.to_vec(),
            request.spki.to_vec(),
            element(0xa3, &join(SEQUENCE, &extensions(request, issuer))),
        ],
    );
    let signature = issuer.key.sign_der(&body)?;
    Ok(join(SEQUENCE, &[body, algorithm, der::bits(&signature)]))
}

fn extensions(request: &Request<'_>, issuer: &Issuer<'_>) -> Vec<Vec<u8>> {
    let authority = request.purpose == Purpose::Authority;
    let usage: &[u8] = match (authority, request.encipher) {
        (true, _) => &[DIGITAL_SIGNATURE, CERT_SIGN, CRL_SIGN],
        (false, true) => &[DIGITAL_SIGNATURE, KEY_ENCIPHERMENT],
        (false, false) => &[DIGITAL_SIGNATURE],
    };
    let constraints = if authority { vec![element(BOOLEAN, &[0xff])] } else { Vec::new() };
    let own_id = element(OCTETS, &key_id(request.spki));
    let mut all = vec![
        extension(KEY_USAGE, true, der::named_bits(usage)),
        extension(BASIC_CONSTRAINTS, true, join(SEQUENCE, &constraints)),
        extension(SUBJECT_KEY_ID, false, own_id),
        extension(AUTHORITY_KEY_ID, false, join(SEQUENCE, &[element(0x80, &key_id(&issuer.key.spki()))])),
    ];
    match request.purpose {
        Purpose::Authority => {}
        Purpose::Server => all.push(extension(EXTENDED_USAGE, false, join(SEQUENCE, &[oid(SERVER_AUTH)]))),
        Purpose::Client => all.push(extension(EXTENDED_USAGE, false, join(SEQUENCE, &[oid(CLIENT_AUTH)]))),
    }
    all.extend(alternative_names(request.names));
    all
}

fn extension(kind: &[u64], critical: bool, value: Vec<u8>) -> Vec<u8> {
    let mut parts = vec![oid(kind)];
    if critical {
        parts.push(element(BOOLEAN, &[0xff]));
    }
    parts.push(element(OCTETS, &value));
    join(SEQUENCE, &parts)
}

/// The extension that names a server; `None` for one without names.
pub(crate) fn alternative_names(names: &Names) -> Option<Vec<u8>> {
    let dns = names.dns.iter().map(|name| element(0x82, name.as_bytes()));
    let ips = names.ips.iter().map(|ip| match ip {
        IpAddr::V4(ip) => element(0x87, &ip.octets()),
        IpAddr::V6(ip) => element(0x87, &ip.octets()),
    });
    let all: Vec<_> = dns.chain(ips).collect();
    (!all.is_empty()).then(|| extension(ALTERNATIVE_NAME, false, join(SEQUENCE, &all)))
}

/// Ties a certificate to its issuer's key: the first 20 bytes of the digest of the public key.
fn key_id(spki: &[u8]) -> Vec<u8> {
    digest(spki)[..20].to_vec()
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's common name: a user.
    pub common_name: String,
    /// The subject's organizations: the user's groups.
    pub organizations: Vec<String>,
    /// The names and addresses of a server.
    pub names: Names,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// The DER name of the subject.
    pub(crate) subject: Vec<u8>,
    /// The `SubjectPublicKeyInfo`.
    pub(crate) spki: Vec<u8>,
}

impl Certificate {
    /// Reads DER.
    ///
    /// # Errors
    /// When it is no certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, Error> {
        let bad = |why: &dyn std::fmt::Display| Error::Certificate { why: why.to_string() };
        let (_, read) = X509Certificate::from_der(der).map_err(|e| bad(&e))?;
        let time =
            |t: x509_parser::time::ASN1Time| Timestamp::from_second(t.timestamp()).map_err(|e| bad(&e));
        let (common_name, organizations) = read_name(read.subject());
        let mut names = Names::default();
        let alternative = read.subject_alternative_name().map_err(|e| bad(&e))?;
        for name in alternative.into_iter().flat_map(|a| &a.value.general_names) {
            add_name(&mut names, name);
        }
        Ok(Self {
            common_name,
            organizations,
            names,
            not_before: time(read.validity().not_before)?,
            not_after: time(read.validity().not_after)?,
            subject: read.subject().as_raw().to_vec(),
            spki: read.public_key().raw.to_vec(),
        })
    }

    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let all = key::certificates(text)?;
        let first = all.first().ok_or_else(|| Error::Certificate { why: "there is none".into() })?;
        Self::from_der(first)
    }
}

/// The DER name of who signed a certificate.
pub(crate) fn issuer(der: &[u8]) -> Result<Vec<u8>, Error> {
    let (_, read) = X509Certificate::from_der(der).map_err(|e| Error::Certificate { why: e.to_string() })?;
    Ok(read.issuer().as_raw().to_vec())
}

/// Whether the first certificate of a PEM text names `authority` as the key that signed it.
pub(crate) fn is_issued_by(pem: &str, authority: &Key) -> bool {
    use x509_parser::extensions::ParsedExtension;
    let Ok(all) = key::certificates(pem) else { return false };
    let Some(Ok((_, read))) = all.first().map(|der| X509Certificate::from_der(der)) else { return false };
    let own = key_id(&authority.spki());
    read.extensions().iter().any(|e| match e.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => {
            id.key_identifier.as_ref().is_some_and(|id| id.0 == own)
        }
        _ => false,
    })
}

/// Adds a host name or an address; tells whether it was one.
pub(crate) fn add_name(names: &mut Names, name: &GeneralName<'_>) -> bool {
    match name {
        GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
        GeneralName::IPAddress(octets) => match (<[u8; 4]>::try_from(*octets), <[u8; 16]>::try_from(*octets))
        {
            (Ok(v4), _) => names.ips.push(IpAddr::from(v4)),
            (_, Ok(v6)) => names.ips.push(IpAddr::from(v6)),
            _ => return false,
        },
        _ => return false,
    }
    true
}

/// Whether [`read_name`] sees what others see: a text of another alphabet, as of T61String, it passes over, and a tag in
/// the long form others take for something else.
pub(crate) fn is_readable(name: &X509Name<'_>) -> bool {
    /// UTF8String, NumericString, PrintableString, IA5String.
    const TEXTS: [&[u8]; 4] = [&[0x0c], &[0x12], &[0x13], &[0x16]];
    name.iter_common_name().chain(name.iter_organization()).all(|part| {
        part.as_str().is_ok() && part.attr_value().header.raw_tag().is_some_and(|tag| TEXTS.contains(&tag))
    })
}

/// Common name and organizations of a DER name.
pub(crate) fn read_name(name: &X509Name<'_>) -> (String, Vec<String>) {
    let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().ok().map(str::to_owned);
    let common_name = name.iter_common_name().filter_map(text).last().unwrap_or_default();
    (common_name, name.iter_organization().filter_map(text).collect())
}
