//! Links, and pages in any pieces.

use proptest::prelude::*;

use super::*;

fn links() -> Links {
    let mut headers = HeaderMap::new();
    headers.insert("host", "localhost:8001".parse().unwrap());
    Links::new("/api/v1/namespaces/x/services/s/proxy", "10.0.0.5:80", None, &headers)
}

const PREFIX: &str = "/api/v1/namespaces/x/services/s/proxy";

#[test]
fn what_leads_back_and_what_does_not() {
    for (link, expected) in [
        ("/index", format!("{PREFIX}/index")),
        ("/", format!("{PREFIX}/")),
        ("/a/b?c=/d#e", format!("{PREFIX}/a/b?c=/d#e")),
        ("http://10.0.0.5:80/x", format!("{PREFIX}/x")),
        ("https://localhost:8001/x", format!("{PREFIX}/x")),
        ("//10.0.0.5:80/x", format!("{PREFIX}/x")),
        ("http://example.org/x", "http://example.org/x".to_owned()),
        ("relative/x", "relative/x".to_owned()),
        ("?page=2", "?page=2".to_owned()),
        ("#top", "#top".to_owned()),
        ("mailto:a@b", "mailto:a@b".to_owned()),
        ("/api/v1/namespaces/x/services/s/proxy/y", format!("{PREFIX}/y")),
        ("/api/v1/namespaces/x/services/s/proxyother", format!("{PREFIX}{PREFIX}other")),
    ] {
        assert_eq!(links().rewrite(link), expected, "{link}");
    }
}

const PAGE: &str = r#"<!DOCTYPE html><!-- <a href="/no"> --><html><head><title><a href="/no"></title>
<script src="/s.js" async>if (a<b && "<a href='/no'>") {}</script><base href=/base/ target=x><link rel='icon' href='/i.png'/>
</head><body><a class="x>y" href="/yes" title="/no">1 < 2 <img alt=x src = "/p.png"></a><a HREF="http://other/x">é</a><p data-x="/no">"#;

fn expected() -> String {
    PAGE.replace("\"/s.js\"", &format!("\"{PREFIX}/s.js\""))
        .replace("=/base/", &format!("={PREFIX}/base/"))
        .replace("'/i.png'", &format!("'{PREFIX}/i.png'"))
        .replace("\"/yes\"", &format!("\"{PREFIX}/yes\""))
        .replace("\"/p.png\"", &format!("\"{PREFIX}/p.png\""))
}

fn rewritten(page: &[u8], size: usize) -> Vec<u8> {
    let mut rewriter = Rewriter::new(links());
    let mut out: Vec<u8> = page.chunks(size).flat_map(|piece| rewriter.feed(piece)).collect();
    out.extend_from_slice(&rewriter.pending);
    out
}

#[test]
fn only_links_of_markup_change() {
    assert_eq!(String::from_utf8(rewritten(PAGE.as_bytes(), PAGE.len())).unwrap(), expected());
}

#[test]
fn a_tag_that_never_ends_is_text() {
    let page = format!("<a href=\"{}", "x".repeat(3 * TAG_MAX));
    assert_eq!(rewritten(page.as_bytes(), 1000), page.as_bytes());
}

proptest! {
    #[test]
    fn pieces_make_no_difference(size in 1..200usize) {
        prop_assert_eq!(String::from_utf8(rewritten(PAGE.as_bytes(), size)).unwrap(), expected());
    }

    #[test]
    fn text_without_links_stays(page in "[<>a-z /\"'!-]{0,80}", size in 1..20usize) {
        prop_assert_eq!(rewritten(page.as_bytes(), size), page.as_bytes());
    }

    #[test]
    fn nonsense_does_no_harm(page in prop::collection::vec(any::<u8>(), 0..200), size in 1..50usize) {
        prop_assert_eq!(rewritten(&page, size), rewritten(&page, page.len().max(1)));
    }
}
