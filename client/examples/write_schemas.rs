//! Writes the JSON schemas into `client/schema`: `make schema`.

use std::error::Error;
use std::path::Path;

use sealpost::schema;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    std::fs::create_dir_all(&folder)?;
    for (name, schema) in schema::all() {
        std::fs::write(folder.join(name), schema::text(&schema)?)?;
    }
    Ok(())
}
