//! SPEC.md says what the code does: its worked example is the code's own.

#[path = "../examples/figures.rs"]
#[allow(dead_code)]
mod figures;
#[path = "../examples/worked_example.rs"]
mod worked_example;

#[test]
fn the_worked_example_of_the_specification_is_what_the_code_computes() {
    let specification = include_str!("../SPEC.md");
    let (_, rest) = specification
        .split_once("<!-- worked example: begin -->\n")
        .unwrap();
    let (written, _) = rest.split_once("<!-- worked example: end -->").unwrap();
    let computed = worked_example::section().unwrap();
    assert!(
        written.trim() == computed.trim(),
        "replace the text between the two comments with: cargo run -q -p sealpost-core --example worked_example"
    );
}

#[test]
fn the_sizes_on_the_page_for_implementers_are_those_of_the_code() {
    let page = include_str!("../IMPLEMENTING.md");
    let (_, rest) = page.split_once("<!-- sizes: begin -->\n").unwrap();
    let (written, _) = rest.split_once("<!-- sizes: end -->").unwrap();
    assert_eq!(
        written.trim(),
        figures::sizes().unwrap().trim(),
        "replace the table with: cargo run -q -p sealpost-core --example figures -- sizes"
    );
}
