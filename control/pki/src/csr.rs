//! Certificate signing requests: reading them, and what each signer of Kubernetes signs
//! (`certificates.k8s.io`, "Kubernetes signers").

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use crate::Error;
use crate::certificate::{Names, Purpose, add_name, is_readable, read_name};

/// The group that no rule binds.
const MASTERS: &str = "system:masters";

/// What a signing request asks to be certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    /// The subject's common name.
    pub common_name: String,
    /// The subject's organizations.
    pub organizations: Vec<String>,
    /// Host names and addresses.
    pub names: Names,
    /// Whether it asks for names of other kinds: mail addresses, URIs.
    pub other_names: bool,
    pub(crate) subject: Vec<u8>,
    pub(crate) spki: Vec<u8>,
}

impl Csr {
    /// Reads one block `CERTIFICATE REQUEST`, beside which nothing may stand, and checks that its sender has the key.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_pem(text: &[u8]) -> Result<Self, Error> {
        let bad = |why: &dyn std::fmt::Display| Error::Csr { why: why.to_string() };
        let der = sole(text).ok_or_else(|| bad(&"not one PEM block CERTIFICATE REQUEST and nothing else"))?;
        let (_, read) = X509CertificationRequest::from_der(&der).map_err(|e| bad(&e))?;
        read.verify_signature().map_err(|e| bad(&e))?;
        let info = &read.certification_request_info;
        if !is_readable(&info.subject) {
            return Err(bad(&"the subject has a name that is no UTF8String, PrintableString or IA5String"));
        }
        let (common_name, organizations) = read_name(&info.subject);
        let (mut names, mut other_names) = (Names::default(), false);
        for extension in read.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(list) = extension {
                for name in &list.general_names {
                    other_names |= !add_name(&mut names, name);
                }
            }
        }
        let (subject, spki) = (info.subject.as_raw().to_vec(), info.subject_pki.raw.to_vec());
        Ok(Self { common_name, organizations, names, other_names, subject, spki })
    }
}

/// What a text holds that is one request and nothing else. Whoever let the request pass has read it so too: were there
/// room for a second one, he might have seen that.
fn sole(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii();
    let body = text
        .strip_prefix("-----BEGIN CERTIFICATE REQUEST-----")?
        .strip_suffix("-----END CERTIFICATE REQUEST-----")?;
    let line_ends = ['\r', '\n'];
    if !body.starts_with(line_ends) || !body.ends_with(line_ends) {
        return None;
    }
    STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
}

/// Signers of Kubernetes that this authority stands behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// `kubernetes.io/kube-apiserver-client`
    Client,
    /// `kubernetes.io/kube-apiserver-client-kubelet`
    KubeletClient,
    /// `kubernetes.io/kubelet-serving`
    KubeletServing,
}

impl Signer {
    /// By the name in `spec.signerName`; `None` for one that somebody else stands behind.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "kubernetes.io/kube-apiserver-client" => Some(Self::Client),
            "kubernetes.io/kube-apiserver-client-kubelet" => Some(Self::KubeletClient),
            "kubernetes.io/kubelet-serving" => Some(Self::KubeletServing),
            _ => None,
        }
    }

    pub(crate) fn purpose(self) -> Purpose {
        match self {
            Self::Client | Self::KubeletClient => Purpose::Client,
            Self::KubeletServing => Purpose::Server,
        }
    }

    /// Why this signer does not sign, if it does not; in upstream's words where upstream's signer looks too.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(self, csr: &Csr, usages: &[&str]) -> Result<(), &'static str> {
        let auth = match self.purpose() {
            Purpose::Server => "server auth",
            _ => "client auth",
        };
        let known = ["digital signature", "key encipherment", auth];
        if self == Self::Client {
            // Admission has refused it; should it have been shown another request, it ends here.
            if csr.organizations.iter().any(|organization| organization == MASTERS) {
                return Err("subject organization system:masters is not allowed");
            }
            let right = usages.contains(&auth) && usages.iter().all(|u| known.contains(u));
            return if right { Ok(()) } else { Err("usages did not match [client auth]") };
        }
        if csr.organizations != ["system:nodes"] {
            return Err("subject organization is not system:nodes");
        }
        if !csr.common_name.starts_with("system:node:") {
            return Err("subject common name does not begin with system:node:");
        }
        if csr.other_names {
            return Err("email and URI subjectAltNames are not allowed");
        }
        let named = !csr.names.dns.is_empty() || !csr.names.ips.is_empty();
        match self {
            Self::KubeletClient if named => return Err("DNS and IP subjectAltNames are not allowed"),
            Self::KubeletServing if !named => return Err("DNS or IP subjectAltName is required"),
            _ => {}
        }
        let right = usages.contains(&"digital signature")
            && usages.contains(&auth)
            && usages.iter().all(|u| known.contains(u));
        match (right, auth) {
            (true, _) => Ok(()),
            (false, "server auth") => {
                Err("usages did not match [digital signature key encipherment server auth]")
            }
            (false, _) => Err("usages did not match [digital signature key encipherment client auth]"),
        }
    }
}

/// From when until when a certificate is valid that is signed at `now`: five minutes back for clocks that differ, a year
/// on or what is asked for, never beyond the authority's own end.
pub(crate) fn validity(
    now: Timestamp,
    asked: Option<Duration>,
    authority_ends: Timestamp,
) -> (Timestamp, Timestamp) {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let back = SignedDuration::from_mins(5);
    let asked = SignedDuration::try_from(asked.unwrap_or(YEAR)).unwrap_or(SignedDuration::MAX);
    let not_before = now.checked_sub(back).unwrap_or(now);
    let not_after = now.checked_add(asked).unwrap_or(authority_ends).min(authority_ends);
    (not_before, not_after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::der;

    fn csr(common_name: &str, organizations: &[&str], dns: &[&str]) -> Csr {
        Csr {
            common_name: common_name.into(),
            organizations: organizations.iter().map(ToString::to_string).collect(),
            names: Names::new(dns),
            other_names: false,
            subject: Vec::new(),
            spki: Vec::new(),
        }
    }

    #[test]
    fn what_each_signer_signs() {
        let client = ["digital signature", "key encipherment", "client auth"];
        let server = ["digital signature", "server auth"];
        let node = csr("system:node:n1", &["system:nodes"], &[]);
        let serving = csr("system:node:n1", &["system:nodes"], &["n1", "10.0.0.1"]);
        let person = csr("jane", &["dev", "ops"], &[]);
        let master = csr("jane", &["dev", "system:masters"], &[]);
        use Signer::{Client, KubeletClient, KubeletServing};
        for (signer, csr, usages, expected) in [
            (Client, &person, &client[..], None),
            (Client, &person, &["client auth"][..], None),
            (Client, &person, &server[..], Some("usages did not match [client auth]")),
            (Client, &master, &client[..], Some("subject organization system:masters is not allowed")),
            (KubeletClient, &master, &client[..], Some("subject organization is not system:nodes")),
            (KubeletClient, &node, &client[..], None),
            (KubeletClient, &person, &client[..], Some("subject organization is not system:nodes")),
            (KubeletClient, &serving, &client[..], Some("DNS and IP subjectAltNames are not allowed")),
            (KubeletServing, &serving, &server[..], None),
            (KubeletServing, &node, &server[..], Some("DNS or IP subjectAltName is required")),
        ] {
            assert_eq!(signer.check(csr, usages).err(), expected, "{signer:?} {}", csr.common_name);
        }
        assert_eq!(Signer::named("example.com/mine"), None);
    }

    #[test]
    fn a_request_hides_no_other() {
        let key = crate::Key::generate().unwrap();
        let request = |groups: &[&str]| crate::request(&key, "jane", groups, &Names::default()).unwrap();
        let read = |text: &str| Csr::from_pem(text.as_bytes()).map(|csr| csr.organizations);
        let (good, bad) = (request(&["dev"]), request(&["system:masters"]));
        for text in [good.clone(), good.trim().to_owned(), format!("\n{good}\n"), good.replace('\n', "\r\n")]
        {
            assert_eq!(read(&text).unwrap(), ["dev"], "{text:?}");
        }
        for text in
            [format!("#{good}{bad}"), format!("{good}{bad}"), format!("x\n{good}"), format!("{good}x")]
        {
            let why = read(&text).unwrap_err().to_string();
            assert_eq!(
                why, "certificate signing request: not one PEM block CERTIFICATE REQUEST and nothing else",
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_name_that_others_may_read_is_read() {
        use rcgen::{CertificateParams, DnType, DnValue, KeyPair};
        let read = |organization: DnValue| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::OrganizationName, organization);
            let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
            Csr::from_pem(request.as_bytes()).map(|csr| csr.organizations)
        };
        let masters = "system:masters";
        for organization in [
            DnValue::Utf8String(masters.to_owned()),
            DnValue::Ia5String(masters.try_into().unwrap()),
            DnValue::PrintableString(masters.try_into().unwrap()),
        ] {
            assert_eq!(read(organization).unwrap(), [masters]);
        }
        for organization in [
            DnValue::TeletexString(masters.try_into().unwrap()),
            DnValue::BmpString(masters.try_into().unwrap()),
        ] {
            assert!(read(organization).unwrap_err().to_string().contains("the subject has a name"));
        }
        // The tags 12 in the long form, of another class, and as it should be.
        let key = crate::Key::generate().unwrap();
        for (tag, is_read) in [(&[0x1f, 0x0c][..], false), (&[0x8c], false), (&[0x0c], true)] {
            let value = [tag, &[14], masters.as_bytes()].concat();
            let pair = der::join(der::SEQUENCE, &[der::oid(&[2, 5, 4, 10]), value]);
            let subject = der::join(der::SEQUENCE, &[der::join(der::SET, &[pair])]);
            let request = crate::request::of_subject(&key, subject, &[]).unwrap();
            assert_eq!(Csr::from_pem(request.as_bytes()).is_ok(), is_read, "{tag:?}");
        }
    }

    #[test]
    fn how_long_a_certificate_is_valid() {
        let now: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        let end: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
        let until = |asked| validity(now, asked, end).1.to_string();
        assert_eq!(until(None), "2027-01-01T00:00:00Z");
        assert_eq!(until(Some(Duration::from_secs(3600))), "2026-11-21T01:00:00Z");
        assert_eq!(until(Some(Duration::MAX)), "2027-01-01T00:00:00Z");
    }
}
