//! What the documents say is true: the tutorial at every step, and every policy that they show.

mod common;

use std::path::Path;

use common::{bulkhead, site, text};

/// Who puts one step's lines behind the other's, as the tutorial says, has a site that passes after each.
#[test]
fn the_tutorial_is_true_at_every_step() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tutorial-policy.md");
    let document = std::fs::read_to_string(path).unwrap();
    let mut so_far = String::new();
    for block in document.split("```policy\n").skip(1) {
        so_far.push_str(block.split("```").next().unwrap());
        let folder = site("tutorial", &so_far).display().to_string();
        for words in [["check", &folder].as_slice(), &["test", &folder], &["prove", &folder]] {
            let output = bulkhead(words);
            assert_eq!(output.status.code(), Some(0), "{so_far}\n{}", text(&output));
        }
    }
    let folder = site("tutorial", &so_far).display().to_string();
    let output = bulkhead(&["test", &folder, "--min-coverage", "100"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let turned = so_far.replace("when motor is running as while_running", "when motor is standing as while_running");
    let output = bulkhead(&["prove", &site("tutorial-turned", &turned).display().to_string()]);
    assert!(output.status.code() == Some(1) && text(&output).contains("guest -> drive.run(on: true)\n  then guest"));
    let aged = so_far.replace("unless drive.run came before", "and age of motor below 1 s");
    let broken = bulkhead(&["prove", &site("tutorial-aged", &aged).display().to_string()]);
    assert!(broken.status.code() == Some(1) && text(&broken).contains("BROKEN"), "{}", text(&broken));
    let kept = aged.replace("not on and motor is running", "not on and motor is running and age of motor >= 1 s");
    assert_eq!(bulkhead(&["prove", &site("tutorial-kept", &kept).display().to_string()]).status.code(), Some(0));
}

/// Blocks that are set off by four spaces or fenced, and begin as a policy does, are whole policies.
#[test]
fn every_policy_in_the_documents_compiles() {
    let mut count = 0;
    for name in ["policy.md", "policy-semantics.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
        let document = std::fs::read_to_string(&path).unwrap();
        for (number, block) in document.split("```policy\n").skip(1).enumerate() {
            let block = block.split("```").next().unwrap();
            // What is no whole policy stands on the site that the document begins with.
            let first = document.split("```policy\n").nth(1).unwrap().split("```").next().unwrap();
            let whole = if block.starts_with("edition") { block.to_string() } else { format!("{first}\n{block}") };
            let folder = site(&format!("block-{name}-{number}"), &whole);
            for verb in ["test", "prove"] {
                let output = bulkhead(&[verb, &folder.to_string_lossy()]);
                assert_eq!(output.status.code(), Some(0), "{name}: {block}\n{}", text(&output));
            }
            count += 1;
        }
    }
    assert!(count >= 8, "{count} blocks");
}
