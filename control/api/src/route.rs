//! What is answered outside of the resources: discovery, OpenAPI, health, version, figures, public keys.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use http::HeaderMap;
use http::header::ACCEPT;
use proto_kube::{Status, User, resource};
use serde_json::{Value, json};

use crate::cached::Document;
use crate::discovery;
use crate::health;
use crate::info::{RequestInfo, Target};
use crate::metrics::Gauge;
use crate::openapi;
use crate::process;
use crate::query::Query;
use crate::reply::{self, Response};
use crate::server::Server;

/// The level of the API that is served.
pub const VERSION: (&str, &str) = ("1", "37");

static CORE: LazyLock<Document> =
    LazyLock::new(|| Document::new(discovery::AGGREGATED, discovery::text(&discovery::aggregated_core())));
static GROUPS: LazyLock<Document> =
    LazyLock::new(|| Document::new(discovery::AGGREGATED, discovery::text(&discovery::aggregated_groups())));

/// How the cluster is joined: who joins cannot prove anything yet.
const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

/// Whether a path may be asked for by those who prove no identity; what they may do there is for their roles to say.
#[must_use]
pub fn is_public(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    matches!(first, "healthz" | "livez" | "readyz") || matches!(path, "/version" | "/version/" | CLUSTER_INFO)
}

/// Answers a request that is about no resource.
pub async fn answer(
    server: &Arc<Server>,
    user: &User,
    info: &RequestInfo,
    query: &Query,
    headers: &HeaderMap,
) -> Response {
    let response = found(server, user, info, query, headers).await;
    let reads = matches!(info.verb, "get" | "head") || response.status() == http::StatusCode::NOT_FOUND;
    if reads { response } else { reply::status(&not_allowed()) }
}

async fn found(
    server: &Arc<Server>,
    user: &User,
    info: &RequestInfo,
    query: &Query,
    headers: &HeaderMap,
) -> Response {
    let path = info.path.trim_end_matches('/');
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts.as_slice() {
        [] => index(server, user),
        ["api"] if aggregated(headers) => CORE.answer(headers, "public", "Accept"),
        ["apis"] if aggregated(headers) => GROUPS.answer(headers, "public", "Accept"),
        ["api"] => old(&discovery::core_versions(&address(server))),
        ["apis"] => old(&discovery::group_list()),
        ["api", version] => of_version("", version),
        ["apis", group] => discovery::group(group).map_or_else(reply::no_such_page, |group| old(&group)),
        ["apis", group, version] => of_version(group, version),
        ["version"] => reply::bytes(200, "application/json", version()),
        ["metrics"] => reply::bytes(200, "text/plain; version=0.0.4; charset=utf-8", figures(server)),
        [path @ ("healthz" | "livez" | "readyz"), one @ ..] => {
            let one = (!one.is_empty()).then(|| one.join("/"));
            health::answer(path, one.as_deref(), &health::checks(server, path).await, query)
        }
        ["openapi", rest @ ..] => openapi::answer(rest, query, headers, server.now()).await,
        [".well-known", "openid-configuration"] => {
            let issuer = &server.config.issuer;
            let keys = format!("https://{}/openid/v1/jwks", address(server));
            public(&pki::token::discovery(issuer, &keys), "application/json")
        }
        ["openid", "v1", "jwks"] => public(&server.pki.jwks(), "application/jwk-set+json"),
        _ => reply::no_such_page(),
    }
}

/// An old document.
fn old(value: &Value) -> Response {
    reply::bytes(200, "application/json", discovery::text(value))
}

/// The old document of a version; below a group that is served the refusal is a Status, as upstream has it.
fn of_version(group: &str, version: &str) -> Response {
    match discovery::resource_list(group, version) {
        Some(resources) => old(&resources),
        None if group.is_empty() || discovery::group(group).is_some() => reply::status(&Status::no_route()),
        None => reply::no_such_page(),
    }
}

/// The answer about a resource that is not served: below a group that is, a Status, as upstream has it.
#[must_use]
pub fn not_served(verb: &str, target: &Target) -> Response {
    if (verb, target.group.as_str(), target.resource.as_str())
        == ("list", "apiextensions.k8s.io", "customresourcedefinitions")
    {
        // There are none. kubectl wants to hear it before it creates what it cannot patch, such as a review.
        return reply::json(
            200,
            &json!({
                "kind": "CustomResourceDefinitionList", "apiVersion": "apiextensions.k8s.io/v1",
                "metadata": {"resourceVersion": "1"}, "items": [],
            }),
        );
    }
    let known = resource::all().iter().any(|r| r.group == target.group);
    if known { reply::status(&Status::no_route()) } else { reply::no_such_page() }
}

fn not_allowed() -> Status {
    let none = proto_kube::GroupResource { group: "", resource: "" };
    Status {
        message: "the server does not allow this method on the requested resource".to_owned(),
        ..Status::method_not_allowed(none, "")
    }
}

fn aggregated(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect::<Vec<_>>().join(",");
    discovery::wants_aggregated(&accept)
}

fn public(value: &Value, media: &str) -> Response {
    let mut response = reply::bytes(200, media, value.to_string());
    let caching = http::HeaderValue::from_static("public, max-age=3600");
    response.headers_mut().insert(http::header::CACHE_CONTROL, caching);
    response
}

/// Where clients reach this server.
fn address(server: &Server) -> String {
    let port = server.port();
    match server.config.advertise {
        std::net::IpAddr::V4(ip) => format!("{ip}:{port}"),
        std::net::IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    }
}

/// The paths that `user` may see.
fn index(server: &Server, user: &User) -> Response {
    let may = |path: &String| {
        let asked = authz::Attributes { verb: "get", path: Some(path), ..authz::Attributes::default() };
        server.authority.decide(&server.store, user, &asked).is_allowed()
    };
    reply::json(200, &json!({"paths": discovery::paths().into_iter().filter(may).collect::<Vec<_>>()}))
}

/// The document at `/version`, for people too. Who builds a release says in `CLEAT_COMMIT` of what.
fn version() -> String {
    let (major, minor) = VERSION;
    let own = env!("CARGO_PKG_VERSION");
    let members = [
        ("major", major),
        ("minor", minor),
        ("emulationMajor", major),
        ("emulationMinor", minor),
        ("minCompatibilityMajor", major),
        ("minCompatibilityMinor", "36"),
        ("gitVersion", &format!("v{major}.{minor}.0+cleat-{own}")),
        ("gitCommit", option_env!("CLEAT_COMMIT").unwrap_or("unknown")),
        ("gitTreeState", "clean"),
        ("buildDate", "1970-01-01T00:00:00Z"),
        ("goVersion", ""),
        ("compiler", "rustc"),
        ("platform", &platform()),
    ];
    let lines: Vec<String> =
        members.iter().map(|(name, value)| format!("  {name:?}: {}", Value::from(*value))).collect();
    format!("{{\n{}\n}}", lines.join(",\n"))
}

fn platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{architecture}", std::env::consts::OS)
}

fn figures(server: &Server) -> String {
    let waiting = i64::try_from(server.gate.waiting()).unwrap_or(i64::MAX);
    let gauge = |name, help, value| Gauge { name, help, value };
    let gauges = [
        gauge("apiserver_storage_revision", "The revision of the last change.", server.store.revision()),
        gauge(
            "apiserver_storage_compacted_revision",
            "The oldest revision that can be read.",
            server.store.compacted(),
        ),
        gauge("apiserver_flowcontrol_current_inqueue_requests", "Requests that wait for a seat.", waiting),
        gauge(
            "apiserver_storage_writable",
            "Whether the store takes writes.",
            i64::from(server.store.trouble().is_none()),
        ),
    ];
    let beside = server.beside.get().map_or_else(String::new, |text| text());
    server.metrics.text(&gauges) + &objects(server) + &process::text() + &beside
}

/// How many objects there are of each resource.
fn objects(server: &Server) -> String {
    let name = "apiserver_resource_objects";
    let mut text = format!("# HELP {name} Objects that are kept.\n# TYPE {name} gauge\n");
    for resource in resource::all() {
        let own = resource::preferred(resource.group_resource()).is_some_and(|r| std::ptr::eq(r, resource));
        let Some(prefix) = resource.prefix().filter(|_| own) else { continue };
        let range = store::Range { limit: Some(1), ..store::Range::default() };
        let Ok(page) = server.store.range(&prefix, range) else { continue };
        let (count, group, plural) = (page.entries.len() + page.remaining, resource.group, resource.plural);
        let _ = writeln!(text, "{name}{{group=\"{group}\",resource=\"{plural}\"}} {count}");
    }
    text
}
