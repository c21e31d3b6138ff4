//! A cache of these objects sees what is whole, and what is metadata alone.

use client::Event;
use proto_kube::view::View;
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;

/// What comes until all is known: for each object whether it is whole.
async fn until_synced(events: &mut UnboundedReceiver<Event>) -> Vec<bool> {
    let mut whole = Vec::new();
    while let Some(event) = events.recv().await {
        match &event.new {
            Some(object) => whole.push(object["data"].is_object()),
            None => break,
        }
    }
    whole
}

#[tokio::test]
async fn a_cache_keeps_metadata_until_somebody_needs_more() {
    let (objects, maps) = (Objects::default(), resource::find("", "v1", "configmaps").unwrap());
    objects.put(maps, json!({ "metadata": { "namespace": "n", "name": "a" }, "data": { "key": "value" } }));
    let cache = objects.cache();
    let mut narrow = cache.subscribe_some(maps, "nobody", Arc::new(|_| false));
    assert_eq!(until_synced(&mut narrow).await, [false]);
    let seen = cache.get(maps.group_resource(), "n", "a").unwrap();
    assert_eq!((&seen["kind"], &seen["data"]), (&json!("ConfigMap"), &Value::Null));
    let mut wide = cache.subscribe(maps);
    cache.synced(&[maps]).await;
    assert_eq!(cache.get(maps.group_resource(), "n", "a").unwrap()["data"]["key"], "value");
    assert_eq!(until_synced(&mut wide).await, [false, true]);
    objects.delete(maps, "n", "a").unwrap();
    objects.put(maps, json!({ "metadata": { "namespace": "n", "name": "b" }, "data": {} }));
    let news = [narrow.recv().await, wide.recv().await, wide.recv().await].map(Option::unwrap);
    assert!(news[0].new.as_ref().unwrap()["data"].is_object(), "what one needs, all have");
    assert!(news[1].new.is_none() && news[2].old.is_none());
}
