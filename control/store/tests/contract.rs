//! The contract suite on every backend.

mod suite;

use store::{Config, Place, Store};

#[tokio::test]
async fn memory_keeps_the_contract() {
    let store: Store = Store::open(Config::new(Place::Memory)).await.expect("opens");
    suite::contract(&store).await;
    store.close().await;
}
