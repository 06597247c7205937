//! What the VM may write, and how often.

use crate::raw::{get, metadata, start};

const KEY: &str = "instance/guest-attributes/vmjob/state";

#[tokio::test]
async fn guest_attributes_are_off_unless_enabled() {
    let cloud = start().await;
    assert_eq!(metadata(&cloud, "PUT", KEY, b"x").await.status, 403);
    assert_eq!(get(&cloud, KEY).await.status, 403);
    cloud.set("project/attributes/enable-guest-attributes", "TRUE");
    assert_eq!(metadata(&cloud, "PUT", KEY, b"x").await.status, 200);
    cloud.set_attribute("enable-guest-attributes", "FALSE");
    assert_eq!(get(&cloud, KEY).await.status, 403, "the instance's own setting wins");
}

#[tokio::test]
async fn what_is_written_can_be_read_listed_and_deleted() {
    let cloud = start().await;
    cloud.set_attribute("enable-guest-attributes", "TRUE");
    assert_eq!(metadata(&cloud, "PUT", KEY, b"running").await.status, 200);
    assert_eq!(get(&cloud, KEY).await.text(), "running");
    assert_eq!(get(&cloud, "instance/guest-attributes/").await.text(), "vmjob/\n");
    assert_eq!(get(&cloud, "instance/guest-attributes/vmjob/").await.text(), "state\n");
    assert_eq!(cloud.guest_attributes()["vmjob/state"], b"running");
    assert_eq!(metadata(&cloud, "DELETE", KEY, b"").await.status, 200);
    assert_eq!(metadata(&cloud, "DELETE", KEY, b"").await.status, 404);
    assert_eq!(get(&cloud, KEY).await.status, 404);
}

#[tokio::test]
async fn bad_names_and_large_values_are_refused() {
    let cloud = start().await;
    cloud.set_attribute("enable-guest-attributes", "TRUE");
    for path in ["", "vmjob", "vmjob/", "vmjob/a/b", "vm.job/a"] {
        let answer = metadata(&cloud, "PUT", &format!("instance/guest-attributes/{path}"), b"x").await;
        assert_eq!(answer.status, 400, "{path}");
    }
    let large = vec![b'x'; (256 << 10) + 1];
    assert_eq!(metadata(&cloud, "PUT", KEY, &large).await.status, 413);
    assert_eq!(metadata(&cloud, "PUT", KEY, &large[1..]).await.status, 200);
}

#[tokio::test]
async fn the_eleventh_write_of_a_minute_is_refused() {
    let cloud = start().await;
    cloud.set_attribute("enable-guest-attributes", "TRUE");
    for write in 1..=10 {
        assert_eq!(metadata(&cloud, "PUT", KEY, b"x").await.status, 200, "write {write}");
    }
    let refused = metadata(&cloud, "PUT", KEY, b"y").await;
    assert_eq!(refused.status, 429);
    assert_eq!(get(&cloud, KEY).await.text(), "x");
}
