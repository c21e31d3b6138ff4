//! Documents, lists, mistakes and identities.

use super::*;

const POD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - {name: c, image: 'i:1'}\n";

fn check(file: &str, text: &str) -> (Vec<String>, Vec<String>) {
    let (manifests, problems) = read(Path::new(file), text, "n1", Timestamp::UNIX_EPOCH);
    let names = manifests.iter().map(|m| pod::full_name(&m.pod)).collect();
    (names, problems.iter().map(|p| format!("{}: {}", p.document, p.message)).collect())
}

#[test]
fn forms() {
    let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    let list = format!(r#"{{"apiVersion":"v1","kind":"List","items":[{json},{json}]}}"#);
    let pods = r#"{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{"name":"web"},"spec":{"containers":[{"name":"c","image":"i"}]}}]}"#;
    let web = "default/web-n1".to_owned();
    for (file, text, count) in [
        ("a.yaml", POD.to_owned(), 1),
        ("a.yaml", format!("# nothing\n---\n{POD}---\n\n---\n{POD}..."), 2),
        ("a.yaml", format!("--- # first\n{POD}"), 1),
        ("a.yaml", String::new(), 0),
        ("a.json", json.to_owned(), 1),
        ("a.yml", json.to_owned(), 1),
        ("a.json", format!("{json}\n{json}"), 2),
        ("a.json", list.clone(), 2),
        ("a.yaml", pods.to_owned(), 1),
    ] {
        assert_eq!(check(file, &text), (vec![web.clone(); count], Vec::new()), "{text}");
    }
}

#[test]
fn each_mistake_is_named_and_the_others_go_on() {
    let with = |from: &str, to: &str| POD.replace(from, to);
    for (text, problem) in [
        (with("image", "imge"), "unknown field \"spec.containers[0].imge\": correct or remove it"),
        (with("spec:", "spce:"), "unknown field \"spce\""),
        (
            with("{name: c,", "{name: c, stdin: maybe,"),
            "spec.containers[0].stdin: Invalid value: invalid type: string \"maybe\", expected a boolean",
        ),
        (
            with("kind: Pod", "kind: Deployment"),
            "kind: Unsupported value: \"Deployment\" of apiVersion \"v1\"",
        ),
        (with("kind: Pod\n", ""), "kind: Required value"),
        (with("v1", "v2"), "kind: Unsupported value: \"Pod\" of apiVersion \"v2\""),
        (with("{name: web}", "{}"), "metadata.name: Required value"),
        (with("name: c", "name: C"), "spec.containers[0].name: Invalid value: \"C\""),
        ("just words\n".to_owned(), "not an object"),
        (with("metadata:", "metadata: ["), "line 11: not YAML: illegal"),
        (with("metadata:", "kind: Pod\nmetadata:"), "line 10: not YAML: duplicate mapping key"),
    ] {
        let (names, problems) = check("a.yaml", &format!("{POD}---\n{text}---\n{POD}"));
        assert_eq!(names.len(), 2, "{text}");
        assert_eq!(problems.len(), 1, "{text}\n{problems:#?}");
        assert!(problems[0].starts_with(&format!("2: {problem}")), "{}\ninstead of {problem}", problems[0]);
    }
    assert!(check("a.json", "{\"kind\": \"Pod\"").1[0].starts_with("1: not JSON: EOF"));
}

#[test]
fn yaml_is_read_as_kubernetes_users_write_it() {
    let text =
        POD.replace("image: 'i:1'", "image: i, args: [yes, on, y, '010'], env: [{name: A, value: no}]");
    let text = format!("{text}  volumes:\n  - name: v\n    downwardAPI: {{defaultMode: 0644}}\n");
    let (manifests, problems) = read(Path::new("a.yaml"), &text, "n", Timestamp::UNIX_EPOCH);
    assert_eq!(problems, []);
    let spec = pod::spec(&manifests[0].pod);
    assert_eq!(spec.containers[0].args.as_deref().unwrap(), ["yes", "on", "y", "010"]);
    assert_eq!(spec.volumes.as_ref().unwrap()[0].downward_api.as_ref().unwrap().default_mode, Some(0o644));
}

#[test]
fn a_problem_has_the_name_of_its_pod_or_file() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: y}\nspec: {}\n";
    let (_, problems) = read(Path::new("/m/a.yaml"), text, "n", Timestamp::UNIX_EPOCH);
    assert_eq!((problems[0].namespace.as_str(), problems[0].name.as_str()), ("y", "x"));
    let (_, problems) = read(Path::new("/m/a.yaml"), "[", "n", Timestamp::UNIX_EPOCH);
    assert_eq!((problems[0].namespace.as_str(), problems[0].name.as_str()), ("default", "a"));
}

#[test]
fn the_uid_is_of_content_file_and_node() {
    let uid = |file: &str, text: &str, node: &str| {
        read(Path::new(file), text, node, Timestamp::UNIX_EPOCH).0[0].uid.clone()
    };
    let own = uid("a.yaml", POD, "n");
    assert_eq!(own.len(), 32);
    assert_eq!(own, uid("a.yaml", &format!("# a comment\n{POD}"), "n"), "words about it do not change it");
    assert_ne!(own, uid("b.yaml", POD, "n"));
    assert_ne!(own, uid("a.yaml", POD, "m"));
    assert_ne!(own, uid("a.yaml", &POD.replace("i:1", "i:2"), "n"));
}

#[test]
fn upstreams_annotations_and_defaults() {
    let (manifests, _) = read(Path::new("/m/a.yaml"), POD, "n1", Timestamp::UNIX_EPOCH);
    let pod = &manifests[0].pod;
    assert_eq!(pod::annotation(pod, labels::CONFIG_SOURCE), Some("file"));
    assert_eq!(pod::annotation(pod, labels::CONFIG_HASH), Some(manifests[0].uid.as_str()));
    assert_eq!(pod::annotation(pod, labels::CONFIG_SEEN), Some("1970-01-01T00:00:00Z"));
    let spec = pod::spec(pod);
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
    assert_eq!(spec.node_name.as_deref(), Some("n1"));
    assert_eq!(spec.containers[0].image_pull_policy.as_deref(), Some("IfNotPresent"));
}
