//! What is done together.

use super::*;

fn key() -> controllers::Key {
    ("ns".to_owned(), "a".to_owned())
}

fn create() -> Mutation {
    Mutation::Create(of("", "pods"), json!({"metadata": {"namespace": "ns", "name": "a"}}))
}

fn delete() -> Mutation {
    Mutation::Delete(of("", "pods"), key(), json!({"preconditions": {"uid": "u"}}))
}

fn merge() -> Mutation {
    Mutation::Merge(of("", "pods"), key(), None, json!({}))
}

#[test]
fn what_is_alike_stands_together() {
    let steps = |mutations: Vec<Mutation>| -> VecDeque<Step> {
        mutations.into_iter().map(|m| Step { change: Some(m), events: Vec::new() }).collect()
    };
    assert_eq!(alike(&steps(vec![create(), create(), delete()])), 2);
    assert_eq!(alike(&steps(vec![delete(), create()])), 1);
    assert_eq!(alike(&steps(vec![merge(), merge()])), 1);
}
