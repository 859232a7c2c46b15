//! The demo's promise: real data, every number right, nothing left.

use rustix::process::Signal;
use serde_json::Value;

use crate::running::{Running, addresses, answers, client};

#[tokio::test]
async fn the_demo_brings_every_flight_of_the_source_through_the_router_and_every_tenant_to_the_last_version() {
    let ended = Running::start(["demo", "--output", "json"]).ended().await;
    assert!(ended.status.success(), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).expect("a report");
    assert_eq!((&report["agrees"], &report["flights"]), (&Value::from(true), &Value::from(27_004)));
    let tenants = report["tenants"].as_array().expect("tenants");
    let with = |isolation: &str| tenants.iter().filter(|tenant| tenant["isolation"] == isolation).count();
    assert_eq!((with("cluster"), with("database"), with("schema")), (1, 5, 10));
    for tenant in tenants {
        assert_eq!(tenant["flights_through_router"], tenant["flights_in_source"], "{tenant}");
        assert_eq!(tenant["schema_version"], 15, "{tenant}");
    }
    let united = tenants.iter().find(|tenant| tenant["airline"] == "UA").expect("United");
    assert_eq!((&united["flights_in_source"], &united["isolation"]), (&Value::from(4_637), &Value::from("cluster")));
}

#[tokio::test]
async fn a_kept_demo_answers_until_ctrl_c_which_leaves_nothing_running() {
    let mut demo = Running::start(["demo", "--keep"]);
    let said = demo.says("/statistics'").await;
    let value_of = |name: &str| {
        let (_, rest) = said.split_once(name).expect("the variable");
        rest.split_whitespace().next().expect("its value").to_owned()
    };
    let (url, token) = (value_of("TENANTRY_URL="), value_of("TENANTRY_TOKEN="));
    let addresses = addresses(&url, &client(&url, &token)).await;
    assert_eq!(addresses.len(), 3, "the embedded server, the server of one tenant, the control plane");
    assert!(addresses.iter().all(answers));

    let ended = demo.signalled(Signal::INT).await;
    assert!(ended.status.success(), "{ended:?}");
    assert!(!addresses.iter().any(answers), "{addresses:?}");
}
