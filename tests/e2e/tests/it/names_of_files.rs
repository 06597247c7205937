//! `${JOB_…}` and `*` in the names of inputs, outputs and the uploaded log.

use e2e::{Vm, expect};
use fakecloud::Config;
use serde_json::json;

#[tokio::test]
async fn variables_stand_for_their_values_in_the_names_of_objects() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.cloud.set_attribute("job-context", r#"{"item": {"d": "a*b$", "n": 2}}"#);
    vm.cloud.put_object("b", "in/3/a*b$-1.csv", "right");
    vm.cloud.put_object("b", "in/3/aXb$-1.csv", "a value's * is no wildcard");
    let report = vm
        .run_job(
            "[ $JOB_ATTEMPT = 2 ] || exit 75; cat /in/*; ls /in; echo y > /out/y",
            json!({
                "id": "names", "task_index": 3, "task_count": 4, "retry": {"max_attempts": 2, "on": ["EXIT_CODE:75"]},
                "inputs": [{"from": "gs://b/in/${JOB_TASK_INDEX}/${JOB_ITEM_d}-*.csv", "to": "/in/"}],
                "outputs": [{"from": "/out/", "to": "gs://b/out/${JOB_ID}-${JOB_ATTEMPT}/"}],
                "logs": {"upload": "gs://b/logs/$$${JOB_ITEM_n}/"},
            }),
        )
        .await;
    let out = json!({"from": "/out/", "to": "gs://b/out/names-2/", "files": 1, "error": null});
    expect(&report, &json!({"cause": "NONE", "logs": {"head": "righta*b$-1.csv\n", "uri": "gs://b/logs/$2/names/2/"}}));
    expect(&report["uploads"][0], &out);
    let objects = vm.cloud.objects("b");
    for name in ["out/names-2/y", "logs/$2/names/2/stdout.log"] {
        assert!(objects.iter().any(|object| object == name), "{objects:?}");
    }
}

#[tokio::test]
async fn a_star_takes_what_matches_in_one_directory() {
    for vm in Vm::of_each_kind().await {
        vm.cloud.set_page_size(2);
        for name in ["in/a.csv", "in/b.csv", "in/c.txt", "in/deep/d.csv", "in/", "in.csv", "in/z.csv"] {
            vm.cloud.put_object("b", name, name);
        }
        let (inputs, outputs) = (vm.shared_path("in/"), vm.shared_path("out/"));
        let mut job = vm.job(
            "cd /shared/out; ls ../in > list.txt; echo x > list.bin; mkdir run.txt sub; echo y > run.txt/y; echo z > sub/z.txt",
            json!({}),
        );
        std::fs::create_dir(vm.dir().join("shared/out")).unwrap();
        job["inputs"] = json!([{"from": "gs://b/in/*.csv", "to": inputs}]);
        job["outputs"] = json!([{"from": format!("{outputs}*.txt"), "to": "gs://o/"}]);
        vm.cloud.set_attribute("job-spec", job.to_string());
        let report = vm.run().await;
        expect(&report, &json!({"cause": "NONE", "uploads": [{"from": format!("{outputs}*.txt"), "files": 2}]}));
        assert_eq!(*vm.cloud.object("o", "list.txt").unwrap().content, b"a.csv\nb.csv\nz.csv\n");
        assert_eq!(vm.cloud.objects("o"), ["list.txt", "run.txt/y"]);
    }
}

#[tokio::test]
async fn where_nothing_matches_the_file_is_missing() {
    let Some(vm) = Vm::with_docker().await else { return };
    vm.cloud.put_object("b", "in/a.txt", "x");
    let inputs = json!({"inputs": [{"from": "gs://b/in/*.csv", "to": "/in/"}]});
    expect(&vm.run_job("true", inputs).await, &json!({"cause": "INPUT_FAILED", "message": "~gs://b/in/*.csv"}));
    for (is_required, cause) in [(true, "OUTPUT_FAILED"), (false, "NONE")] {
        let Some(vm) = Vm::with_docker().await else { return };
        let output = json!({"from": "/out/*.csv", "to": "gs://b/", "required": is_required});
        let report = vm.run_job("echo x > /out/a.txt", json!({"outputs": [output]})).await;
        let error = "~the job has put nothing there that matches *.csv";
        expect(&report, &json!({"cause": cause, "uploads": [{"from": "/out/*.csv", "files": 0, "error": error}]}));
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_filled_is_an_invalid_spec() {
    for (name, message) in [
        ("gs://b/${JOB_PREVIOUS_CAUSE}/", "~job-spec: outputs[0].to: the variable JOB_PREVIOUS_CAUSE is empty"),
        ("gs://b/${JOB_ITEM_lr}/", "~job-spec: outputs[0].to: this job has no variable JOB_ITEM_lr"),
        ("gs://b/$x/", "~job-spec: outputs[0].to: \"gs://b/$x/\" has a $ that begins no ${JOB_…}"),
    ] {
        let vm = Vm::without_docker(Config::default()).await;
        let report = vm.run_job("true", json!({"outputs": [{"from": "/out/", "to": name}]})).await;
        expect(&report, &json!({"cause": "INVALID_SPEC", "message": message}));
    }
}
