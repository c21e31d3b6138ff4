//! Documents by tables.

use super::*;

fn digest(digit: char) -> Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
}

fn entry(digit: char, platform: &str) -> String {
    let platform = match platform.split('/').collect::<Vec<_>>().as_slice() {
        [os, arch, variant] => format!(r#"{{"os":"{os}","architecture":"{arch}","variant":"{variant}"}}"#),
        [os, arch] => format!(r#"{{"os":"{os}","architecture":"{arch}"}}"#),
        _ => "null".to_owned(),
    };
    format!(r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":7,"platform":{platform}}}"#, digest(digit))
}

fn index(entries: &[String]) -> Index {
    let text =
        format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{}]}}"#, entries.join(","));
    match Document::parse(text.as_bytes(), "") {
        Ok(Document::Index(index)) => index,
        other => panic!("{other:?}"),
    }
}

#[test]
fn select_takes_the_nearest() {
    let arm: Platform = "linux/arm64".parse().unwrap_or_default();
    let all = index(&[
        entry('1', "linux/amd64"),
        entry('2', "linux/arm/v6"),
        entry('3', "linux/arm/v7"),
        entry('4', "unknown/unknown"),
        entry('5', "windows/arm64"),
    ]);
    assert_eq!(all.select(&arm).unwrap().digest, digest('3'));
    let error = all.select(&"linux/s390x".parse().unwrap_or_default()).unwrap_err();
    let text = "no image for linux/s390x: offered are linux/amd64, linux/arm/v6, linux/arm/v7, windows/arm64";
    assert_eq!(error.to_string(), text);
    assert_eq!(index(&[entry('1', "")]).select(&arm).unwrap().digest, digest('1'));
    assert!(index(&[]).select(&arm).is_err());
    let twins = index(&[entry('1', "linux/arm64/v8"), entry('2', "linux/arm64")]);
    assert_eq!(twins.select(&arm).unwrap().digest, digest('1'));
}

#[test]
fn documents_are_told_apart() {
    let config = format!(r#""config":{{"mediaType":"x","digest":"{}","size":2}}"#, digest('a'));
    let manifest = format!(r#"{{"schemaVersion":2,{config},"layers":[]}}"#);
    assert!(matches!(Document::parse(manifest.as_bytes(), DOCKER_MANIFEST), Ok(Document::Manifest(_))));
    assert!(matches!(
        Document::parse(manifest.as_bytes(), "application/json; charset=x"),
        Ok(Document::Manifest(_))
    ));
    let both = format!(r#"{{"schemaVersion":2,{config},"layers":[],"manifests":[]}}"#);
    let refused: &[(&str, &str)] = &[
        (&both, OCI_MANIFEST),
        (&manifest, "text/html"),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#, "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        (r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.empty.v1+json"}"#, ""),
        ("<html>", OCI_MANIFEST),
        (r#"{"schemaVersion":2,"layers":[]}"#, OCI_MANIFEST),
    ];
    for (text, content_type) in refused {
        assert!(Document::parse(text.as_bytes(), content_type).is_err(), "{text}");
    }
}

#[test]
fn configuration_takes_docker_nulls() {
    let text = r#"{"architecture":"amd64","os":"linux","created":"2026-01-02T03:04:05Z","config":{"User":"1000:50",
        "Env":["A=b"],"Entrypoint":null,"Cmd":["sh"],"Volumes":{"/data":{}},"ExposedPorts":null,"Labels":null,
        "WorkingDir":"/w","OnBuild":null,"ArgsEscaped":true},"rootfs":{"type":"layers","diff_ids":null},"history":[]}"#;
    let document: ConfigDocument = serde_json::from_str(text).unwrap();
    assert_eq!(
        document.platform,
        Platform { os: "linux".into(), architecture: "amd64".into(), variant: String::new() }
    );
    assert_eq!(document.config.user, "1000:50");
    assert_eq!(document.config.volumes, ["/data"]);
    assert!(document.config.entrypoint.is_empty() && document.rootfs.diff_ids.is_empty());
    let again: ImageConfig = serde_json::from_str(&serde_json::to_string(&document.config).unwrap()).unwrap();
    assert_eq!(again, document.config);
    assert_eq!(
        serde_json::from_str::<ConfigDocument>(r#"{"config":null}"#).unwrap(),
        ConfigDocument::default()
    );
}

#[test]
fn chain_of_two_is_the_digest_over_both() {
    let chain = chain_ids(&[digest('1'), digest('2')]);
    assert_eq!(chain[0], digest('1'));
    assert_eq!(chain[1], Digest::of(format!("{} {}", digest('1'), digest('2')).as_bytes()));
}
