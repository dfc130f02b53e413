//! Prints the kernel, which chooses a program for each seed, and the function that launches it.

use super::step::row_name;
use super::{program, tensors};
use crate::compile::{KernelClass, Pass};
use std::fmt::Write;

/// An argument of the kernel: its name, its type in a signature, and what it is.
type Argument = (String, String, String);

/// The kernel, its signature and its launcher.
pub(super) fn print(class: &KernelClass) -> String {
    let mut text = String::new();
    if class.pass != Pass::Train {
        text += include_str!("identity.py");
    }
    let arguments = arguments(class);
    text += "\n\n# ---- The kernel: a block has one seed, and takes every num_programs(1)-th tile of rows. ----\n\n\n";
    text += "@triton.jit\ndef kasmina(\n";
    for (name, kind, what) in &arguments {
        // Triton takes a number of Python's for f32 unless told.
        let annotation = if kind == "fp64" { ": tl.float64" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    {name}{annotation},{}{what}", if what.is_empty() { "" } else { "  # " });
    }
    text += "):\n";
    text += &body(class);
    text += "\n\n# The types of the arguments, for compiling ahead of time; a pointer that may be None is there.\nSIGNATURE = {\n";
    for (name, kind, _) in &arguments {
        let _ = writeln!(text, "    \"{name}\": \"{kind}\",");
    }
    text + "}\n" + &launcher(class, &arguments)
}

fn arguments(class: &KernelClass) -> Vec<Argument> {
    let argument = |name: &str, kind: &str, what: &str| (name.to_string(), kind.to_string(), what.to_string());
    let pointer = |kind: &str| format!("*{}", short(kind));
    let number = pointer(super::number_type(class.data_type));
    let mut arguments = vec![
        argument("rows", "i64", "of every row tensor"),
        argument("hidden", "i64", "channels of a row"),
        argument("seeds", "i32", "of the layer"),
        argument("blueprints", "i32", "of the layer"),
    ];
    for tensor in tensors(class.pass) {
        arguments.push(argument(tensor, &pointer(super::element_type(class.data_type)), "[rows, hidden]"));
        arguments.push(argument(&format!("{tensor}_row"), "i64", "elements from one row to the next"));
        arguments.push(argument(&format!("{tensor}_channel"), "i64", "and from one channel to the next"));
    }
    arguments.extend([
        argument("lifecycle", "*i8", "[seeds]"),
        argument("blueprint", "*i32", "[seeds], below blueprints or -1"),
        argument("slot", "*i32", "[seeds]"),
        argument("alpha", "*fp32", "[seeds]"),
        argument("branch", "*i32", "[blueprints], below PROGRAMS or -1"),
        argument("telemetry", "*fp64", "[seeds, COLUMNS]; may be None"),
    ]);
    match class.pass {
        Pass::Forward => {}
        Pass::Backward => arguments.push(argument("alpha_gradient", "*fp32", "[seeds], added to; may be None")),
        Pass::Train => arguments.extend([
            argument("loss", "*fp64", "[seeds, 2], added to: the loss, and 1; may be None"),
            argument("loss_scale", "fp64", "what a squared error is multiplied by"),
        ]),
    }
    arguments.extend([
        argument("random", "*u64", "the key of random numbers, less random_offset; None where dropout is not active"),
        argument("random_offset", "u64", ""),
        argument("scratch", &number, "[blocks, SCRATCH]"),
        argument("integers", "*i64", "[blocks, INTEGERS]"),
    ]);
    for branch in 0..class.programs.len() {
        arguments.push(argument(&format!("parameters_{branch}"), &number, "[capacity, size]"));
        if class.pass != Pass::Forward {
            arguments.push(argument(&format!("gradient_{branch}"), &number, "[capacity, size], added to; may be None"));
        }
        arguments.push(argument(&format!("capacity_{branch}"), "i32", "slots of the bank"));
        arguments.push(argument(&format!("size_{branch}"), "i32", "numbers of a slot"));
    }
    arguments
}

/// A type as it stands in a signature.
fn short(kind: &str) -> &'static str {
    match kind {
        "tl.float16" => "fp16",
        "tl.bfloat16" => "bf16",
        "tl.float64" => "fp64",
        _ => "fp32",
    }
}

fn body(class: &KernelClass) -> String {
    let mut text = String::from(include_str!("select.py"));
    let programs = class.programs.len();
    for branch in 0..programs {
        let _ = writeln!(text, "        capacity = tl.where(taken == {branch}, capacity_{branch}, capacity)");
    }
    text += "        known = known & (own_slot >= 0) & (own_slot < capacity)\n        \
             frozen = ((FROZEN >> (state & 31)) & 1) != 0\n        \
             program = tl.where(known, tl.where(frozen, PROGRAMS + taken, taken), -1)\n";
    for tensor in tensors(class.pass) {
        let _ = writeln!(text, "        {tensor}_chunk = {tensor} + seed.to(tl.int64) * CHUNK * {tensor}_channel");
    }
    if let Some(input) = class.pass.watched() {
        let observe = if class.pass == Pass::Forward { "observe" } else { "observe_gradient" };
        let tensor = row_name(input);
        let _ = write!(
            text,
            "        if telemetry is not None:\n            \
             {observe}(rows, {tensor}_chunk, {tensor}_row, {tensor}_channel, telemetry + seed * COLUMNS)\n            \
             tl.debug_barrier()  # The output may be what has just been read.\n"
        );
    }
    for number in 0..programs + class.frozen.len() {
        let branch = number % programs;
        let start = format!("own_slot.to(tl.int64) * size_{branch}");
        let given = program::arguments(class.pass).into_iter().map(|name| match name.as_str() {
            "parameters" | "gradient" => format!("{name}_{branch}"),
            "slot_start" => start.clone(),
            "loss_scale" => "tl.full([1, 1], loss_scale, number)".into(),
            tensor if tensors(class.pass).contains(&tensor) => format!("{tensor}_chunk"),
            _ => name,
        });
        let word = if number == 0 { "if" } else { "elif" };
        let given: Vec<_> = given.collect();
        let _ =
            writeln!(text, "        {word} program == {number}:\n            program_{number}({})", given.join(", "));
    }
    let (source, tail) = match class.pass {
        Pass::Forward => ("x", true),
        Pass::Backward => ("output_gradient", true),
        Pass::Train => ("", false),
    };
    if tail {
        let (indent, word) = if programs == 0 { ("        ", "") } else { ("            ", "        else:\n") };
        let _ = write!(
            text,
            "{word}{indent}copy_chunk(rows, {source}_chunk, {source}_row, {source}_channel, output_chunk, output_row, \
             output_channel)\n    \
             else:\n        \
             copy_tail(rows, hidden, seeds, {source}, {source}_row, {source}_channel, output, output_row, output_channel)\n"
        );
    }
    text
}

fn launcher(class: &KernelClass, arguments: &[Argument]) -> String {
    let banks = match class.pass {
        Pass::Forward => "(parameters, None)",
        _ => "(parameters, gradient)",
    };
    let named = |name: &str| arguments.iter().any(|argument| argument.0 == name);
    let mut keywords: Vec<String> = tensors(class.pass).iter().map(|name| name.to_string()).collect();
    keywords.extend(["lifecycle", "blueprint", "slot", "alpha", "branch", "banks"].map(String::from));
    let optional = [("telemetry", "None"), ("alpha_gradient", "None"), ("loss", "None"), ("loss_scale", "1.0")];
    let optional = optional.into_iter().chain([("random", "None"), ("random_offset", "0"), ("row_blocks", "None")]);
    keywords.extend(
        optional
            .filter(|(name, _)| *name == "row_blocks" || named(name))
            .map(|(name, default)| format!("{name}={default}")),
    );
    let first = tensors(class.pass)[0];
    let last = tensors(class.pass)[tensors(class.pass).len() - 1];
    let tail = if class.pass == Pass::Train { "0" } else { "hidden - seeds * CHUNK.value" };
    let mut given = vec!["rows".into(), "hidden".into(), "seeds".into(), "branch.shape[0]".into()];
    for tensor in tensors(class.pass) {
        given.push(format!("{tensor}, *{tensor}.stride()"));
    }
    for (name, ..) in &arguments[4 + 3 * tensors(class.pass).len()..] {
        match name.as_str() {
            name if name.starts_with("parameters_") => break,
            name => given.push(name.to_string()),
        }
    }
    let bank = match class.pass {
        Pass::Forward => "given.extend([parameters, *parameters.shape])",
        _ => "given.extend([parameters, gradient, *parameters.shape])",
    };
    format!(
        "\n\ndef launch({keywords}):\n    \
         \"\"\"Runs the kernel on the current stream. Row tensors are [rows, hidden]; `banks` has {banks} for each program,\n    \
         both [slots, numbers]. `row_blocks` is how many blocks share the rows of a seed: with 1, two launches on the same\n    \
         inputs give the same bits.\"\"\"\n    \
         rows, hidden = {first}.shape\n    \
         seeds = lifecycle.shape[0]\n    \
         if any(tensor.shape != {first}.shape for tensor in ({tensors})) or seeds * CHUNK.value > hidden:\n        \
         raise ValueError(f\"{{seeds}} seeds of {{CHUNK.value}} channels and tensors {{tuple({first}.shape)}} do not fit\")\n    \
         if len(banks) != PROGRAMS.value:\n        \
         raise ValueError(f\"there are {{len(banks)}} banks; the kernel has {{PROGRAMS.value}} programs\")\n    \
         columns = seeds + triton.cdiv({tail}, WIDTH.value)\n    \
         if rows == 0 or columns == 0:\n        return\n    \
         if row_blocks is None:\n        \
         row_blocks = max(1, min(triton.cdiv(rows, ROWS.value), 1024 // columns))\n    \
         compute = torch.{compute}\n    \
         scratch = torch.empty(seeds * row_blocks, max(1, SCRATCH.value), dtype=compute, device={last}.device)\n    \
         integers = torch.empty(seeds * row_blocks, max(1, INTEGERS.value), dtype=torch.int64, device={last}.device)\n    \
         given = []\n    \
         for parameters, gradient in banks:\n        {bank}\n    \
         # Prefetching would read scratch memory before it is written.\n    \
         kasmina[(columns, row_blocks)]({given}, *given, num_stages=1)\n",
        keywords = keywords.join(", "),
        tensors = tensors(class.pass).join(", "),
        compute = if class.data_type == crate::graph::DataType::F64 { "float64" } else { "float32" },
        given = given.join(", "),
    )
}
