//! Rules for volumes, and for how containers use them.

use proto_kube::name;
use serde_json::Value;

use crate::check::Field;
use crate::check::net;
use crate::meta;

/// What one volume has two of.
const ONE: &str = "may not specify more than 1 volume type";
const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const PATHS: &str = "conflicting duplicate paths";

/// A rule for one kind of source.
type Rule = fn(&Field<'_>);

/// The sources of a pod's volumes, in the order in which they are looked at.
const SOURCES: &[(&str, Rule)] = &[
    ("emptyDir", empty_dir),
    ("hostPath", host_path),
    ("gitRepo", git_repo),
    ("gcePersistentDisk", |s| disk(&renamed(s, "gcePersistentDisk", "persistentDisk"), "pdName")),
    ("awsElasticBlockStore", |s| disk(s, "volumeID")),
    ("secret", secret),
    ("nfs", nfs),
    ("iscsi", iscsi),
    ("glusterfs", |s| need(s, &["endpoints", "path"])),
    ("flocker", flocker),
    ("persistentVolumeClaim", |s| need(s, &["claimName"])),
    ("rbd", |s| need(s, &["monitors", "image"])),
    ("cinder", |s| need(s, &["volumeID"])),
    ("cephfs", |s| need(s, &["monitors"])),
    ("quobyte", quobyte),
    ("downwardAPI", downward),
    ("fc", fc),
    ("flexVolume", flex),
    ("configMap", config_map),
    ("azureFile", |s| need(s, &["secretName", "shareName"])),
    ("vsphereVolume", |s| need(s, &["volumePath"])),
    ("photonPersistentDisk", |s| need(s, &["pdID"])),
    ("portworxVolume", |s| need(s, &["volumeID"])),
    ("azureDisk", azure_disk),
    ("storageos", |s| need(s, &["volumeName"])),
    ("projected", projected),
    ("scaleIO", |s| need(s, &["gateway", "system", "volumeName"])),
    ("csi", csi),
    ("ephemeral", ephemeral),
    ("image", |s| s.at("pullPolicy").one_of(&["Always", "IfNotPresent", "Never"])),
];

/// The sources of persistent volumes whose rules are those of pods' volumes.
#[must_use]
pub(crate) fn rule(source: &str) -> Option<Rule> {
    SOURCES.iter().find(|(name, _)| *name == source).map(|(_, rule)| *rule)
}

/// Rule: a pod's volumes. Those without faults are returned, by name.
pub(crate) fn validate<'a>(volumes: &Field<'a>, pod: &str) -> Vec<(&'a str, &'a Value)> {
    let mut right: Vec<(&'a str, &'a Value)> = Vec::new();
    let made: Vec<String> = volumes
        .items()
        .filter(|v| !pod.is_empty() && v.at("ephemeral").is_set())
        .map(|v| format!("{pod}-{}", v.at("name").text()))
        .collect();
    for volume in volumes.items() {
        let before = volume.count();
        one(&volume, pod);
        let name = volume.at("name");
        name.needs_shape(name::label);
        if right.iter().any(|(n, _)| *n == name.text()) {
            name.duplicate();
        }
        if volume.count() == before {
            right.push((name.text(), volume.value));
        }
        let claim = volume.at("persistentVolumeClaim").at("claimName");
        if made.iter().any(|made| made == claim.text()) {
            claim.invalid("must not reference a PVC that gets created for an ephemeral volume");
        }
    }
    right
}

fn one(volume: &Field<'_>, pod: &str) {
    let mut found = 0;
    for (key, rule) in SOURCES {
        let Some(source) = volume.member(key) else { continue };
        found += 1;
        if found == 1 {
            rule(&source);
        } else {
            source.forbidden(ONE);
        }
    }
    if found == 0 {
        volume.required("must specify a volume type");
    }
    let name = volume.at("name");
    if volume.at("image").is_set() && !pod.is_empty() {
        need(&volume.at("image"), &["reference"]);
    }
    if volume.at("ephemeral").is_set() && !pod.is_empty() && !name.is_empty() {
        let claim = format!("{pod}-{}", name.text());
        for fault in name::subdomain(&claim) {
            name.invalid(format!("PVC name {claim:?}: {fault}"));
        }
    }
}

fn need(source: &Field<'_>, members: &[&str]) {
    for member in members {
        source.at(member).needs("");
    }
}

/// A source whose faults upstream shows under another name.
fn renamed<'a>(source: &Field<'a>, real: &str, other: &str) -> Field<'a> {
    let path = source.path.to_string();
    let path = path.strip_suffix(real).map_or_else(|| path.clone(), |start| format!("{start}{other}"));
    source.shown_at(proto_kube::field::Path::new(&path))
}

fn disk(source: &Field<'_>, id: &str) {
    need(source, &[id]);
    if source.at("partition").number().is_some_and(|part| !(0..=255).contains(&part)) {
        source.at("partition").invalid("must be between 1 and 255, inclusive");
    }
}

fn quobyte(source: &Field<'_>) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = source.at("registry");
    let pair = |text: &str| {
        text.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'))
    };
    if registry.needs(PAIRS) && !registry.text().split(',').all(pair) {
        registry.invalid(PAIRS);
    }
    if source.at("tenant").text().len() >= 65 {
        source.at("tenant").required("must be a UUID and may not exceed a length of 64 characters");
    }
    need(source, &["volume"]);
}

fn mode(at: &Field<'_>) {
    if at.number().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        at.invalid(MODE);
    }
}

fn empty_dir(source: &Field<'_>) {
    let size = source.at("sizeLimit");
    if size.quantity().is_some_and(|amount| amount.millis() < 0) {
        size.forbidden("SizeLimit field must be a valid resource quantity");
    }
}

fn host_path(source: &Field<'_>) {
    if source.at("path").needs("") {
        net::no_backsteps(&source.at("path"));
        let kinds = [
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ];
        source.at("type").maybe_one_of(&kinds);
    }
}

fn git_repo(source: &Field<'_>) {
    need(source, &["repository"]);
    net::descending(&source.at("directory"));
}

fn secret(source: &Field<'_>) {
    need(source, &["secretName"]);
    files(source);
}

fn config_map(source: &Field<'_>) {
    need(source, &["name"]);
    files(source);
}

fn files(source: &Field<'_>) {
    mode(&source.at("defaultMode"));
    source.at("items").items().for_each(|item| file(&item));
}

fn file(item: &Field<'_>) {
    need(item, &["key", "path"]);
    net::local(&item.at("path"));
    mode(&item.at("mode"));
}

fn nfs(source: &Field<'_>) {
    need(source, &["server", "path"]);
    if !source.at("path").text().starts_with('/') {
        source.at("path").invalid("must be an absolute path");
    }
}

fn iscsi(source: &Field<'_>) {
    need(source, &["targetPortal", "iqn"]);
    let iqn = source.at("iqn");
    if !iqn.is_empty() && !["iqn", "eui", "naa"].iter().any(|start| iqn.text().starts_with(start)) {
        iqn.invalid("must be valid format starting with iqn, eui, or naa");
    }
    source.at("lun").between(0, 255);
    let asks = source.at("chapAuthDiscovery").is_true() || source.at("chapAuthSession").is_true();
    if asks {
        source.at("secretRef").needs_value("");
    }
}

fn flocker(source: &Field<'_>) {
    let (name, uuid) = (source.at("datasetName"), source.at("datasetUUID"));
    match (name.is_empty(), uuid.is_empty()) {
        (true, true) => source.required("one of datasetName and datasetUUID is required"),
        (false, false) => {
            source
                .invalid_value("resource", "datasetName and datasetUUID can not be specified simultaneously");
        }
        _ => {}
    }
    if name.text().contains('/') {
        name.invalid("must not contain '/'");
    }
}

fn fc(source: &Field<'_>) {
    let (names, ids, lun) = (source.at("targetWWNs"), source.at("wwids"), source.at("lun"));
    match (names.is_empty(), ids.is_empty()) {
        (true, true) => names.required("must specify either targetWWNs or wwids, but not both"),
        (false, false) => names.invalid("targetWWNs and wwids can not be specified simultaneously"),
        _ => {}
    }
    if !names.is_empty() && lun.needs_value("lun is required if targetWWNs is specified") {
        lun.between(0, 255);
    }
}

fn flex(source: &Field<'_>) {
    need(source, &["driver"]);
    for (key, option) in source.at("options").entries() {
        let domain = format!(".{}", key.split('/').next().unwrap_or(key).to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            option.invalid_value(key, "kubernetes.io and k8s.io namespaces are reserved");
        }
    }
}

const MANAGED_DISK: &str =
    "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
const BLOB_DISK: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";

fn azure_disk(source: &Field<'_>) {
    need(source, &["diskName", "diskURI"]);
    source.at("cachingMode").maybe_one_of(&["None", "ReadOnly", "ReadWrite"]);
    let kind = source.at("kind");
    kind.maybe_one_of(&["Dedicated", "Managed", "Shared"]);
    let (start, form) = match kind.text() {
        "Managed" => ("/subscriptions/", MANAGED_DISK),
        _ => ("https://", BLOB_DISK),
    };
    if kind.is_set() && !source.at("diskURI").text().starts_with(start) {
        source.at("diskURI").not_supported(&[form]);
    }
}

const FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

fn downward(source: &Field<'_>) {
    mode(&source.at("defaultMode"));
    source.at("items").items().for_each(|item| downward_file(&item.shown_at(source.path.clone())));
}

fn downward_file(item: &Field<'_>) {
    need(item, &["path"]);
    net::local(&item.at("path"));
    let (field, resource) = (item.at("fieldRef"), item.at("resourceFieldRef"));
    if field.is_set() {
        super::container::field_reference(&field, FIELDS);
        if resource.is_set() {
            item.invalid_value(
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            );
        }
    } else if resource.is_set() {
        super::container::resource_reference(&resource, true);
    } else {
        item.required("one of fieldRef and resourceFieldRef is required");
    }
    mode(&item.at("mode"));
}

fn projected(source: &Field<'_>) {
    mode(&source.at("defaultMode"));
    let mut paths: Vec<&str> = Vec::new();
    for part in source.at("sources").items() {
        let mut kinds = 0;
        for key in [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ] {
            let Some(projection) = part.member(key) else { continue };
            kinds += 1;
            let own = match key {
                "secret" | "configMap" => {
                    need(&projection, &["name"]);
                    projection.at("items").items().for_each(|item| file(&item));
                    item_paths(&projection)
                }
                "downwardAPI" => {
                    let items = projection.at("items").items();
                    items.for_each(|item| downward_file(&item.shown_at(projection.path.clone())));
                    item_paths(&projection)
                }
                "serviceAccountToken" => token(&projection, source),
                "clusterTrustBundle" => bundle(&projection),
                _ => Vec::new(),
            };
            for path in own {
                if paths.contains(&path) {
                    let shown = match key {
                        "secret" | "configMap" => projection.at("name").text(),
                        _ => path,
                    };
                    source.invalid_value(shown, PATHS);
                }
                paths.push(path);
            }
        }
        if kinds > 1 {
            part.forbidden("may not specify more than 1 volume type per source");
        }
    }
}

fn item_paths<'a>(projection: &Field<'a>) -> Vec<&'a str> {
    projection
        .at("items")
        .items()
        .map(|item| item.at("path").text())
        .filter(|path| !path.is_empty())
        .collect()
}

fn token<'a>(projection: &Field<'a>, source: &Field<'_>) -> Vec<&'a str> {
    let seconds = projection.at("expirationSeconds");
    match seconds.number_or_zero() {
        ..600 => {
            seconds.invalid_value(seconds.number_or_zero(), "may not specify a duration less than 10 minutes")
        }
        4_294_967_297.. => seconds.invalid("may not specify a duration larger than 2^32 seconds"),
        _ => {}
    }
    let path = projection.at("path").shown_at(source.path.child("path"));
    if path.needs("") {
        net::local(&path);
    }
    Vec::new()
}

fn bundle<'a>(projection: &Field<'a>) -> Vec<&'a str> {
    let (name, signer, path) = (projection.at("name"), projection.at("signerName"), projection.at("path"));
    match (name.is_set(), signer.is_set()) {
        (true, true) => projection.invalid("only one of name and signerName may be used"),
        (true, false) => {
            name.needs("must be a valid object name");
            if projection.at("labelSelector").is_set() {
                projection.at("labelSelector").invalid("labelSelector must be unset if name is specified");
            }
        }
        (false, true) => {
            signer.needs("must be a valid signer name");
            meta::label_selector(&projection.at("labelSelector"));
        }
        (false, false) => projection.required("either name or signerName must be specified"),
    }
    path.needs("");
    net::local(&path);
    vec![path.text()]
}

/// Rule: the name of a storage driver.
pub(crate) fn driver(at: &Field<'_>) {
    if at.needs("") {
        at.at_most(63);
        at.all_invalid(name::subdomain(&at.text().to_lowercase()));
    }
}

fn csi(source: &Field<'_>) {
    driver(&source.at("driver"));
    let secret = source.at("nodePublishSecretRef");
    if secret.is_set() {
        secret.at("name").needs_shape(name::subdomain);
    }
}

fn ephemeral(source: &Field<'_>) {
    let claim = source.at("volumeClaimTemplate");
    if !claim.needs_value("") {
        return;
    }
    let metadata = claim.at("metadata");
    meta::annotations(&metadata.at("annotations"));
    meta::labels(&metadata.at("labels"));
    for (key, value) in metadata.value.as_object().into_iter().flatten() {
        if !["annotations", "labels"].contains(&key.as_str()) && !value.is_null() {
            metadata.at(key).forbidden("cannot be set");
        }
    }
    crate::core::claim::spec(&claim.at("spec"));
}
