//! The interfaces' types.
fn main() {
    bulkhead_lang::types::build(&["shapes.policy", "../../policy/examples/messages/site.policy"]);
}
