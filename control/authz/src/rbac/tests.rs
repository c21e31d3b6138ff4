//! Rules, bindings, escalation, suggestions; and that a policy is what its objects are.

use proptest::prelude::*;
use proto_kube::{GroupResource, User};
use serde_json::{Value, json};

use super::*;

fn rbac(resource: &'static str) -> GroupResource<'static> {
    GroupResource { group: GROUP, resource }
}

fn user(name: &str, groups: &[&str]) -> User {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    User { name: name.to_owned(), groups, ..User::default() }
}

fn role(namespace: &str, name: &str, rules: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": namespace}, "rules": rules})
}

fn binding(namespace: &str, name: &str, role: (&str, &str), subjects: Value) -> Value {
    let reference = json!({"apiGroup": GROUP, "kind": role.0, "name": role.1});
    json!({"metadata": {"name": name, "namespace": namespace}, "roleRef": reference, "subjects": subjects})
}

fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": groups, "resources": resources, "resourceNames": names})
}

/// `verb group/resource/subresource namespace/name`, where the group may be empty.
fn ask(text: &str) -> Attributes<'_> {
    let words: Vec<&str> = text.split(' ').collect();
    if words[1].starts_with('/') && words.len() == 2 {
        return Attributes { verb: words[0], path: Some(words[1]), ..Attributes::default() };
    }
    let (group, resource) = words[1].split_once(':').unwrap_or(("", words[1]));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let (namespace, name) = words.get(2).map_or(("", ""), |word| word.split_once('/').unwrap_or((word, "")));
    Attributes { verb: words[0], group, resource, subresource, namespace, name, ..Attributes::default() }
}

#[test]
fn rules_match_by_each_part() {
    let pods = rule(&["get", "list"], &[""], &["pods"], &[]);
    for (rule, asked, allowed) in [
        (&pods, "get pods ns/web", true),
        (&pods, "list pods", true),
        (&pods, "delete pods ns/web", false),
        (&pods, "get apps:pods ns/web", false),
        (&pods, "get pods/log ns/web", false),
        (&rule(&["*"], &["*"], &["*"], &[]), "sing any:thing/at ns/all", true),
        (&rule(&["*"], &["*"], &["*"], &[]), "get /metrics", false),
        (&rule(&["get"], &[""], &["pods/log"], &[]), "get pods/log ns/web", true),
        (&rule(&["get"], &[""], &["pods/log"], &[]), "get pods ns/web", false),
        (&rule(&["get"], &["*"], &["*/scale"], &[]), "get apps:deployments/scale ns/web", true),
        (&rule(&["get"], &["*"], &["*/scale"], &[]), "get apps:deployments ns/web", false),
        (&rule(&["get"], &["*"], &["*/scale"], &[]), "get apps:deployments/status ns/web", false),
        (&rule(&["get"], &[""], &["pods/*"], &[]), "get pods/log ns/web", false),
        (&rule(&["get"], &[""], &["pods"], &["web"]), "get pods ns/web", true),
        (&rule(&["get"], &[""], &["pods"], &["web"]), "get pods ns/db", false),
        (&rule(&["list"], &[""], &["pods"], &["web"]), "list pods ns", false),
        (&json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/logs/*"]}), "get /healthz", true),
        (&json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/logs/*"]}), "get /logs/a/b", true),
        (&json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/logs/*"]}), "get /logs", false),
        (&json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/logs/*"]}), "post /healthz", false),
        (&json!({"verbs": ["*"], "nonResourceURLs": ["*"]}), "put /any", true),
        (&json!({"verbs": ["*"], "nonResourceURLs": ["*"]}), "get pods ns", false),
    ] {
        assert_eq!(Rule::of(rule).allows(&ask(asked)), allowed, "{rule} {asked}");
    }
}

fn policy() -> Policy {
    let mut policy = Policy::default();
    let read = json!([rule(&["get", "list"], &[""], &["pods"], &[])]);
    for (resource, object) in [
        ("clusterroles", role("", "reader", read.clone())),
        ("clusterroles", role("", "everything", json!([rule(&["*"], &["*"], &["*"], &[])]))),
        ("roles", role("ns", "writer", json!([rule(&["create"], &[""], &["pods"], &[])]))),
        (
            "clusterrolebindings",
            binding("", "all-read", ("ClusterRole", "reader"), json!([{"kind": "Group", "name": "dev"}])),
        ),
        (
            "clusterrolebindings",
            binding("", "broken", ("ClusterRole", "gone"), json!([{"kind": "User", "name": "lost"}])),
        ),
        (
            "clusterrolebindings",
            binding("", "not-a-role", ("Role", "writer"), json!([{"kind": "User", "name": "lost"}])),
        ),
        (
            "rolebindings",
            binding(
                "ns",
                "write",
                ("Role", "writer"),
                json!([{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "bot"}]),
            ),
        ),
        (
            "rolebindings",
            binding(
                "ns",
                "read",
                ("ClusterRole", "reader"),
                json!([{"kind": "ServiceAccount", "name": "bot", "namespace": "other"}]),
            ),
        ),
    ] {
        policy.put(rbac(resource), &object);
    }
    policy
}

#[test]
fn bindings_give_roles_to_subjects() {
    let policy = policy();
    let missing = r#"RBAC: [clusterrole.rbac.authorization.k8s.io "gone" not found, role.rbac.authorization.k8s.io "writer" not found]"#;
    for (user, asked, expected) in [
        (
            user("jane", &["dev"]),
            "list pods ns",
            Some(r#"RBAC: allowed by ClusterRoleBinding "all-read" of ClusterRole "reader" to Group "dev""#),
        ),
        (
            user("jane", &["dev"]),
            "list pods",
            Some(r#"RBAC: allowed by ClusterRoleBinding "all-read" of ClusterRole "reader" to Group "dev""#),
        ),
        (
            user("jane", &[]),
            "create pods ns",
            Some(r#"RBAC: allowed by RoleBinding "write/ns" of Role "writer" to User "jane""#),
        ),
        (
            user("system:serviceaccount:ns:bot", &[]),
            "create pods ns",
            Some(r#"RBAC: allowed by RoleBinding "write/ns" of Role "writer" to ServiceAccount "bot/ns""#),
        ),
        (
            user("system:serviceaccount:other:bot", &[]),
            "get pods ns/a",
            Some(
                r#"RBAC: allowed by RoleBinding "read/ns" of ClusterRole "reader" to ServiceAccount "bot/other""#,
            ),
        ),
        (user("root", &["system:masters"]), "eat pods ns", Some("")),
        (user("jane", &[]), "create pods other", None),
        (user("jane", &[]), "create pods", None),
        (user("dev", &[]), "list pods ns", None),
        (user("system:serviceaccount:other:bot", &[]), "create pods ns", None),
    ] {
        let decision = policy.authorize(&user, &ask(asked));
        let expected =
            expected.map_or(Decision::NoOpinion(String::new()), |why| Decision::Allow(why.to_owned()));
        assert_eq!(decision, expected, "{} {asked}", user.name);
    }
    assert_eq!(policy.authorize(&user("lost", &[]), &ask("get pods")).reason(), missing);
}

#[test]
fn a_user_sees_his_rules() {
    let policy = policy();
    let rules = policy.rules_for(&user("jane", &["dev"]), "ns");
    assert_eq!(rules.rules.iter().map(|r| r.verbs.join(",")).collect::<Vec<_>>(), ["get,list", "create"]);
    assert_eq!(policy.rules_for(&user("jane", &["dev"]), "").rules.len(), 1);
    assert_eq!(policy.rules_for(&user("lost", &[]), "ns").errors.len(), 2);
    assert_eq!(policy.rules_for(&user("root", &["system:masters"]), "ns").rules, everything());
}

#[test]
fn nobody_gives_what_he_does_not_have() {
    let mut policy = policy();
    policy.put(
        rbac("clusterroles"),
        &role("", "binder", json!([rule(&["bind"], &[GROUP], &["clusterroles"], &["everything"])])),
    );
    policy.put(
        rbac("clusterroles"),
        &role("", "escalator", json!([rule(&["escalate"], &[GROUP], &["roles"], &[])])),
    );
    for (name, who) in [("binder", "bo"), ("escalator", "ed")] {
        let subjects = json!([{"kind": "User", "name": who}]);
        policy.put(rbac("clusterrolebindings"), &binding("", name, ("ClusterRole", name), subjects));
    }
    let jane = user("jane", &["dev"]);
    let read = role("ns", "r", json!([rule(&["get"], &[""], &["pods"], &["web"])]));
    let more = role(
        "ns",
        "r",
        json!([rule(&["get", "delete", "patch"], &[""], &["pods"], &[]), {"verbs": ["get"], "nonResourceURLs": ["/x"]}]),
    );
    let bind = |role: &str| binding("ns", "b", ("ClusterRole", role), json!([]));
    let refused = "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"jane\" (groups=[\"dev\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"patch\"]}\n{NonResourceURLs:[\"/x\"], Verbs:[\"get\"]}";
    let whole = "rolebindings.rbac.authorization.k8s.io \"b\" is forbidden: user \"jane\" (groups=[\"dev\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}";
    for (user, resource, object, why) in [
        (&jane, "roles", &read, ""),
        (&jane, "roles", &more, refused),
        (&user("ed", &[]), "roles", &more, ""),
        (&user("root", &["system:masters"]), "roles", &more, ""),
        (&jane, "rolebindings", &bind("reader"), ""),
        (&jane, "rolebindings", &bind("everything"), whole),
        (&user("bo", &[]), "rolebindings", &bind("everything"), ""),
        (&jane, "rolebindings", &bind("gone"), "clusterrole.rbac.authorization.k8s.io \"gone\" not found"),
    ] {
        let result = policy.escalation(user, rbac(resource), "", object, None);
        assert_eq!(result.err().map_or_else(String::new, |s| s.message), why, "{} {object}", user.name);
    }
    let mut released = more.clone();
    released["metadata"]["finalizers"] = json!(["x"]);
    assert!(policy.escalation(&jane, rbac("roles"), "r", &more, Some(&released)).is_ok());
    assert!(policy.escalation(&jane, rbac("roles"), "r", &more, Some(&read)).is_err());
    let secrets = GroupResource { group: "", resource: "secrets" };
    assert!(policy.escalation(&jane, secrets, "", &more, None).is_ok());
}

#[test]
fn rules_of_too_many_combinations_are_not_gone_through() {
    let words = |kind: char, count: usize| (0..count).map(|at| format!("{kind}{at}")).collect::<Vec<_>>();
    let rule = |verbs: Vec<String>, groups: Vec<String>, resources: Vec<String>, names: usize| {
        Rule { verbs, groups, resources, names: words('n', names), paths: vec![] }.to_json()
    };
    let cube = rule(words('v', 300), words('g', 300), words('r', 300), 0);
    let large = rule(words('v', 20), words('g', 10), words('r', 50), 0);
    let eve = user("eve", &[]);
    let subjects = json!([{"kind": "User", "name": "eve"}]);
    let mut policy = Policy::default();
    policy.put(rbac("roles"), &role("ns", "large", json!([large])));
    policy.put(rbac("roles"), &role("ns", "cube", json!([cube])));
    policy.put(rbac("rolebindings"), &binding("ns", "b", ("Role", "large"), subjects.clone()));
    let writes = |policy: &Policy, rules: &Value| {
        policy
            .escalation(&eve, rbac("roles"), "", &role("ns", "r", rules.clone()), None)
            .map_err(|s| (s.code, s.message))
    };
    let too_many = |size: &str| {
        format!(
            "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"eve\" (groups=[]) is attempting to grant RBAC permissions that are too many to check: the rules have {size} combinations of a verb, an API group, a resource and a name, and at most 100000 are checked at once: split them into several roles"
        )
    };
    assert_eq!(writes(&policy, &json!([large, large])), Ok(()));
    assert_eq!(writes(&policy, &json!([cube])), Err((403, too_many("27000000"))));
    let tower = rule(words('v', 70_000), words('g', 70_000), words('r', 70_000), 70_000);
    assert_eq!(writes(&policy, &json!([tower, cube])), Err((403, too_many(&usize::MAX.to_string()))));
    assert_eq!(writes(&policy, &json!(vec![&large; 11])), Err((403, too_many("110000"))));
    // A word counts by its length, and a refusal names the first thousand only.
    let long = rule(vec!["v".repeat(26_000)], words('g', 100), words('r', 100), 0);
    assert_eq!(writes(&policy, &json!([long])), Err((403, too_many("1020000"))));
    let (_, why) =
        writes(&policy, &json!([rule(words('x', 1), words('g', 300), words('r', 300), 0)])).unwrap_err();
    assert_eq!(why.lines().count(), 1001);
    // Who refers to a role that somebody else made gets no further.
    let refers = binding("ns", "c", ("Role", "cube"), subjects.clone());
    let refused = policy.escalation(&eve, rbac("rolebindings"), "", &refers, None).unwrap_err();
    assert!(refused.code == 403 && refused.message.contains("27000000 combinations"), "{}", refused.message);
    // Who holds millions of combinations is asked for those that he gives, and for fewer when he holds many words.
    policy.put(rbac("rolebindings"), &refers);
    assert_eq!(writes(&policy, &json!([large])), Ok(()));
    policy.put(rbac("roles"), &role("ns", "cube", json!([rule(words('v', 20_000), vec![], vec![], 0)])));
    assert_eq!(writes(&policy, &json!([large])).unwrap_err().0, 403);
}

#[test]
fn gathering_takes_all_there_is() {
    let mut role = role("", "g", json!([]));
    role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    let refused = policy().escalation(&user("jane", &[]), rbac("clusterroles"), "", &role, None).unwrap_err();
    assert_eq!(
        refused.message,
        "clusterroles.rbac.authorization.k8s.io \"g\" is forbidden: must have cluster-admin privileges to use the aggregationRule"
    );
    let labelled = |name: &str, verbs: &[&str]| {
        let mut role = super::tests::role("", name, json!([rule(verbs, &[""], &["pods"], &[])]));
        role["metadata"]["labels"] = json!({"a": "b"});
        role
    };
    let others = [labelled("z", &["list"]), labelled("y", &["get"]), labelled("x", &["get"])];
    let gathered = aggregate(&role, &others).unwrap();
    assert_eq!(gathered, [rule(&["get"], &[""], &["pods"], &[]), rule(&["list"], &[""], &["pods"], &[])]);
    role["rules"] = gathered.into();
    assert_eq!(aggregate(&role, &others), None);
    assert_eq!(aggregate(&others[0], &others), None);
}

#[test]
fn a_refusal_says_what_would_help() {
    let mut policy = policy();
    let mut born =
        role("", "view", json!([rule(&["get", "list", "watch"], &[""], &["pods", "services"], &[])]));
    born["metadata"]["labels"] = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    policy.put(rbac("clusterroles"), &born);
    let mut all = role("", "cluster-admin", json!([rule(&["*"], &["*"], &["*"], &[])]));
    all["metadata"]["labels"] = born["metadata"]["labels"].clone();
    policy.put(rbac("clusterroles"), &all);
    let bare = r#"the rule {"apiGroups":[""],"resources":["pods"],"verbs":["delete"]} in a role that is bound to the user would allow it"#;
    let view = r#"ClusterRole "view", if bound to the user, would allow it, as would the rule {"apiGroups":[""],"resources":["services"],"verbs":["watch"]}"#;
    let path = r#"the rule {"nonResourceURLs":["/metrics"],"verbs":["get"]} in a role that is bound to the user would allow it"#;
    let jane = user("jane", &[]);
    for (user, asked, text) in [
        (&jane, "delete pods ns/a", bare),
        (&jane, "watch services ns", view),
        (&jane, "get /metrics", path),
        (&user("system:anonymous", &[]), "get pods ns/a", ""),
        (&user("system:node:n", &["system:nodes"]), "get pods ns/a", ""),
    ] {
        assert_eq!(policy.suggest(user, &ask(asked)), text);
    }
    // A role that someone made is named to those who may read it.
    let subjects = json!([{"kind": "User", "name": "jane"}]);
    policy.put(
        rbac("roles"),
        &role("ns", "see", json!([rule(&["get"], &[GROUP], &["roles", "clusterroles"], &[])])),
    );
    policy.put(rbac("rolebindings"), &binding("ns", "see", ("Role", "see"), subjects));
    assert!(policy.suggest(&jane, &ask("delete pods ns/a")).starts_with("the rule"));
    policy.put(rbac("roles"), &role("ns", "delete", json!([rule(&["delete"], &[""], &["pods"], &[])])));
    assert!(policy.suggest(&jane, &ask("delete pods ns/a")).starts_with("Role \"delete\", if bound"));
}

const VERBS: [&str; 3] = ["get", "list", "*"];
const GROUPS: [&str; 3] = ["", "apps", "*"];
const RESOURCES: [&str; 5] = ["pods", "pods/log", "*/log", "deployments", "*"];
const NAMES: [&str; 2] = ["a", "b"];
const PATHS: [&str; 4] = ["/a", "/a/*", "/b", "*"];

fn words(of: &'static [&'static str], least: usize) -> impl Strategy<Value = Vec<String>> {
    prop::sample::subsequence(of, least..=of.len().min(2))
        .prop_map(|w| w.into_iter().map(str::to_owned).collect())
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let of_resource = (words(&VERBS, 1), words(&GROUPS, 1), words(&RESOURCES, 1), words(&NAMES, 0)).prop_map(
        |(verbs, groups, resources, names)| Rule { verbs, groups, resources, names, paths: vec![] },
    );
    let of_path = (words(&VERBS, 1), words(&PATHS, 1)).prop_map(|(verbs, paths)| Rule {
        verbs,
        paths,
        ..Rule::default()
    });
    prop_oneof![4 => of_resource, 1 => of_path]
}

/// Every request that the words above can tell apart, and some beyond them.
fn every_request() -> Vec<Attributes<'static>> {
    let mut all = Vec::new();
    for verb in ["get", "list", "other"] {
        for path in ["/a", "/a/x", "/b", "/c"] {
            all.push(Attributes { verb, path: Some(path), ..Attributes::default() });
        }
        for group in ["", "apps", "other"] {
            for (resource, subresource) in
                [("pods", ""), ("pods", "log"), ("deployments", ""), ("x", "log"), ("x", "")]
            {
                for name in ["", "a", "b", "c"] {
                    all.push(Attributes {
                        verb,
                        group,
                        resource,
                        subresource,
                        name,
                        ..Attributes::default()
                    });
                }
            }
        }
    }
    all
}

proptest! {
    /// What is covered is allowed: no request that the wanted rules allow is refused by those held.
    #[test]
    fn what_is_covered_is_allowed(held in prop::collection::vec(any_rule(), 0..4), wanted in any_rule()) {
        let missing: Vec<Rule> = uncovered(&held, std::slice::from_ref(&wanted)).collect();
        let allowed = |rules: &[Rule], asked: &Attributes<'_>| rules.iter().any(|rule| rule.allows(asked));
        for asked in every_request() {
            let wants = wanted.allows(&asked);
            if missing.is_empty() && wants {
                prop_assert!(allowed(&held, &asked), "{:?}", asked);
            }
            // What is missing is wanted, and with it nothing is missing.
            prop_assert!(wants || !allowed(&missing, &asked));
            prop_assert!(!wants || allowed(&held, &asked) || allowed(&missing, &asked));
        }
        let all: Vec<Rule> = held.iter().chain(&missing).cloned().collect();
        prop_assert!(uncovered(&all, std::slice::from_ref(&wanted)).next().is_none());
        prop_assert_eq!(uncovered(&[], std::slice::from_ref(&wanted)).count(), wanted.size());
    }

    /// A policy is its objects, in whatever order and over whatever they replaced.
    #[test]
    fn a_policy_is_what_its_objects_are(
        events in prop::collection::vec((0..4_usize, 0..2_usize, 0..2_usize, any_rule(), any::<bool>()), 0..24),
    ) {
        let (mut grown, mut left) = (Policy::default(), std::collections::BTreeMap::new());
        for (kind, namespace, name, rule, goes) in events {
            let resource = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"][kind];
            let namespace = if kind % 2 == 0 { "" } else { ["n", "m"][namespace] };
            let name = NAMES[name];
            let object = if kind < 2 {
                role(namespace, name, json!([rule.to_json()]))
            } else {
                let of = if rule.verbs.len() == 1 || kind == 2 { "ClusterRole" } else { "Role" };
                let subject = if rule.names.is_empty() { json!({"kind": "Group", "name": "g"}) } else { json!({"kind": "User", "name": "u"}) };
                binding(namespace, name, (of, rule.names.first().map_or("a", String::as_str)), json!([subject]))
            };
            if goes {
                grown.remove(rbac(resource), namespace, name);
                left.remove(&(resource, namespace, name));
            } else {
                grown.put(rbac(resource), &object);
                left.insert((resource, namespace, name), object);
            }
        }
        let mut whole = Policy::default();
        for ((resource, ..), object) in left.iter().rev() {
            whole.put(rbac(resource), object);
        }
        for user in [user("u", &["g"]), user("u", &[]), user("v", &["g"])] {
            for namespace in ["", "n", "m"] {
                let (one, other) = (grown.rules_for(&user, namespace), whole.rules_for(&user, namespace));
                prop_assert_eq!(&one.rules, &other.rules);
                prop_assert_eq!(&one.errors, &other.errors);
                for asked in every_request().into_iter().step_by(7) {
                    let asked = Attributes { namespace, ..asked };
                    prop_assert_eq!(grown.authorize(&user, &asked), whole.authorize(&user, &asked));
                }
            }
        }
        prop_assert_eq!(grown.bound.len(), whole.bound.len());
    }
}
