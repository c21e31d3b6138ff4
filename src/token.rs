//! `cleat token`: the bootstrap tokens that nodes join by.

use std::path::Path;

use anyhow::{Context, bail};
use client::{Client, Config, Query};
use jiff::{SignedDuration, Timestamp};
use proto_kube::{GroupResource, Resource, object, resource};
use serde_json::{Value, json};

use crate::args::{Token, TokenVerb};
use crate::ctl;
use crate::output::table;

/// The type of secrets that are tokens; they live in kube-system.
const TYPE: &str = "bootstrap.kubernetes.io/token";
const NAMESPACE: &str = "kube-system";
/// The group that gives a joining node no more than what kubeadm's tokens give.
const GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";

pub(crate) async fn run(token: Token) -> anyhow::Result<()> {
    let Some(kubeconfig) = ctl::kubeconfig(&token.dirs, token.kubeconfig.as_deref())? else {
        bail!("no cluster is known here: name one with --kubeconfig, or its --data-dir");
    };
    let config = Config::load(&kubeconfig, None)?;
    let client = Client::new(&config, concat!("cleat-token/", env!("CARGO_PKG_VERSION")))?;
    match token.verb {
        TokenVerb::Create { ttl, description, quiet } => {
            let token = create(&client, &ttl, &description).await?;
            let hash = hash(&config, &kubeconfig)?;
            if quiet {
                println!("{token}@{hash}");
            } else {
                println!("cleat join {} --token {token}@{hash}", address(&client).await?);
            }
            Ok(())
        }
        TokenVerb::List => list(&client).await,
        TokenVerb::Delete { token } => {
            let id = token.split_once('.').map_or(token.as_str(), |(id, _)| id);
            client.delete(secrets()?, NAMESPACE, &format!("bootstrap-token-{id}"), &Value::Null).await?;
            println!("token {id} revoked");
            Ok(())
        }
    }
}

fn find(group: &'static str, plural: &'static str) -> anyhow::Result<&'static Resource> {
    resource::preferred(GroupResource { group, resource: plural })
        .with_context(|| format!("{plural} are not known"))
}

fn secrets() -> anyhow::Result<&'static Resource> {
    find("", "secrets")
}

/// Makes a token that lives for `ttl` and gives it whole.
async fn create(client: &Client, ttl: &str, description: &str) -> anyhow::Result<String> {
    let life = lifetime(ttl)?;
    let (id, secret) = (random(6)?, random(16)?);
    let mut data = json!({
        "token-id": id,
        "token-secret": secret,
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": GROUP,
    });
    if !life.is_zero() {
        let end = Timestamp::now().saturating_add(life)?;
        data["expiration"] = format!("{end:.0}").into();
    }
    if !description.is_empty() {
        data["description"] = description.into();
    }
    let secret_object = json!({
        "apiVersion": "v1", "kind": "Secret", "type": TYPE, "stringData": data,
        "metadata": { "name": format!("bootstrap-token-{id}"), "namespace": NAMESPACE },
    });
    client.create(secrets()?, NAMESPACE, &secret_object, Query::default()).await?;
    Ok(format!("{id}.{secret}"))
}

fn lifetime(text: &str) -> anyhow::Result<SignedDuration> {
    let life: Option<SignedDuration> =
        if text == "0" { Some(SignedDuration::ZERO) } else { text.parse().ok() };
    match life {
        Some(life) if !life.is_negative() => Ok(life),
        _ => bail!("--ttl {text}: expected a time such as 30m or 24h, or 0 for ever"),
    }
}

/// So many characters of a token's alphabet, from the kernel.
fn random(length: usize) -> anyhow::Result<String> {
    const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut text = String::new();
    while text.len() < length {
        let mut byte = [0_u8];
        rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::empty())?;
        // 252 is the largest multiple of 36 in a byte: beyond it some characters would be likelier.
        if byte[0] < 252 {
            text.push(char::from(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]));
        }
    }
    Ok(text)
}

/// The hash of the authority that the kubeconfig trusts, in hexadecimal.
fn hash(config: &Config, kubeconfig: &Path) -> anyhow::Result<String> {
    let authority = config.authority.as_deref().unwrap_or_default();
    let pin = pki::join::pin(&String::from_utf8_lossy(authority))
        .with_context(|| format!("{}: certificate-authority", kubeconfig.display()))?;
    Ok(pin.trim_start_matches("sha256:").to_owned())
}

/// Where nodes reach the control plane.
async fn address(client: &Client) -> anyhow::Result<String> {
    let slices = find("discovery.k8s.io", "endpointslices")?;
    let slice =
        client.get(slices, "default", "kubernetes").await.context("the control plane's own address")?;
    let address = slice["endpoints"][0]["addresses"][0].as_str();
    match (address, slice["ports"][0]["port"].as_u64()) {
        (Some(ip), Some(port)) if ip.contains(':') => Ok(format!("[{ip}]:{port}")),
        (Some(ip), Some(port)) => Ok(format!("{ip}:{port}")),
        _ => bail!("the Service default/kubernetes has no address yet; try again in a moment"),
    }
}

async fn list(client: &Client) -> anyhow::Result<()> {
    let query = Query::default().with("fieldSelector", &format!("type={TYPE}"));
    let all = client.list(secrets()?, NAMESPACE, query).await?;
    let plain = |secret: &Value, key: &str| -> String {
        use base64::Engine as _;
        let text = object::text(secret, &["data", key]);
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let row = |secret: &Value| {
        let end = Some(plain(secret, "expiration")).filter(|end| !end.is_empty());
        vec![plain(secret, "token-id"), end.unwrap_or_else(|| "never".into()), plain(secret, "description")]
    };
    let rows: Vec<_> = object::items(&all, &["items"]).map(row).collect();
    print!("{}", table(&["ID", "EXPIRES", "DESCRIPTION"], &rows));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_kubeadms_form() {
        let token = format!("{}.{}", random(6).unwrap(), random(16).unwrap());
        assert!(pki::join::bootstrap_token(&token).is_some(), "{token}");
    }

    #[test]
    fn lifetimes() {
        assert_eq!(lifetime("24h").unwrap().as_hours(), 24);
        assert!(lifetime("0").unwrap().is_zero());
        assert!(lifetime("-1h").is_err() && lifetime("soon").is_err());
    }
}
