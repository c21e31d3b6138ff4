//! Making a signing request (PKCS #10, RFC 2986).

use crate::Error;
use crate::certificate::{ECDSA_SHA256, Names, alternative_names, subject};
use crate::der::{self, INTEGER, SEQUENCE, SET, element, join, oid};
use crate::key::{Key, pem};

/// The attribute of a request that carries extensions.
const EXTENSION_REQUEST: &[u64] = &[1, 2, 840, 113_549, 1, 9, 14];

/// Asks that a key be certified as that of a user in its groups, or of a server with names. Returns PEM.
///
/// # Errors
/// When the system has no random bytes.
pub fn request(key: &Key, common_name: &str, organizations: &[&str], names: &Names) -> Result<String, Error> {
    let extensions = alternative_names(names).map(|names| join(SEQUENCE, &[names]));
    let attribute = |list| join(SEQUENCE, &[oid(EXTENSION_REQUEST), join(SET, &[list])]);
    let attributes: Vec<_> = extensions.map(attribute).into_iter().collect();
    of_subject(key, subject(common_name, organizations.iter().copied()), &attributes)
}

/// Asks for a certificate of a DER name. Returns PEM.
pub(crate) fn of_subject(key: &Key, subject: Vec<u8>, attributes: &[Vec<u8>]) -> Result<String, Error> {
    let info = join(SEQUENCE, &[element(INTEGER, &[0]), subject, key.spki(), join(0xa0, attributes)]);
    let signature = der::bits(&key.sign_der(&info)?);
    let algorithm = join(SEQUENCE, &[oid(ECDSA_SHA256)]);
    Ok(pem("CERTIFICATE REQUEST", &join(SEQUENCE, &[info, algorithm, signature])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Csr;

    #[test]
    fn requests_are_read_as_they_are_made() {
        let key = Key::generate().unwrap();
        for names in [Names::default(), Names::new(["n1", "192.0.2.1", "2001:db8::1"])] {
            let text = request(&key, "system:node:n1", &["system:nodes"], &names).unwrap();
            let csr = Csr::from_pem(text.as_bytes()).unwrap();
            assert_eq!(
                (csr.common_name.as_str(), csr.organizations.as_slice()),
                ("system:node:n1", &["system:nodes".to_owned()][..])
            );
            assert_eq!((csr.names, csr.other_names), (names, false));
        }
    }
}
