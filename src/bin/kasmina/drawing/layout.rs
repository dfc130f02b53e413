//! Where boxes and lines lie: layers from the top down, few crossings, boxes near what they are connected with.
//!
//! A line that passes layers has a point in each of them, which takes its place there as a box does. Must know nothing of
//! what the boxes mean.

/// A box: its size, and the numbers of the boxes that stand before it and are above it.
pub struct Sized {
    pub width: f64,
    pub height: f64,
    pub inputs: Vec<usize>,
}

/// A point of the drawing.
pub type Point = (f64, f64);

/// What lies where.
pub struct Layout {
    /// The middle of each box.
    pub middles: Vec<Point>,
    /// For each box and each of its inputs: from the bottom of the input to the top of the box.
    pub lines: Vec<Vec<Vec<Point>>>,
    pub width: f64,
    pub height: f64,
}

/// Space between neighbours in a layer, and between layers.
const GAP: f64 = 28.0;
const LAYER_GAP: f64 = 44.0;
/// How often the order in the layers and the places of the boxes are improved.
const SWEEPS: usize = 24;

/// A box or a point of a line, in its layer.
struct Item {
    width: f64,
    height: f64,
    layer: usize,
    above: Vec<usize>,
    below: Vec<usize>,
    x: f64,
}

/// Lays out boxes.
pub fn lay_out(boxes: &[Sized]) -> Layout {
    let (mut items, chains) = items(boxes);
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); items.iter().map(|item| item.layer + 1).max().unwrap_or(0)];
    items.iter().enumerate().for_each(|(number, item)| layers[item.layer].push(number));
    for sweep in 0..SWEEPS {
        sort(&mut items, &mut layers, sweep % 2 == 0);
    }
    for sweep in 0..SWEEPS {
        settle(&mut items, &layers, sweep % 2 == 0);
    }

    let left = items.iter().map(|item| item.x - item.width / 2.0).fold(f64::INFINITY, f64::min);
    let mut tops = vec![0.0];
    for layer in &layers {
        let height = layer.iter().map(|&item| items[item].height).fold(0.0, f64::max);
        tops.push(tops[tops.len() - 1] + height + LAYER_GAP);
    }
    let middle = |item: &Item| (item.x - left, (tops[item.layer] + tops[item.layer + 1] - LAYER_GAP) / 2.0);
    let lines = boxes.iter().enumerate().map(|(number, one)| {
        let (x, y) = middle(&items[number]);
        let count = one.inputs.len() as f64;
        let ends = (1..).map(move |place| x + one.width * (place as f64 / (count + 1.0) - 0.5));
        let line = |(&input, end): (&usize, f64)| {
            let (from, bottom) = middle(&items[input]);
            let mut points = vec![(from, bottom + items[input].height / 2.0)];
            let between = items[input].layer + 1..items[number].layer;
            points.extend(between.map(|layer| middle(&items[chains[input][layer - items[input].layer - 1]])));
            points.push((end, y - one.height / 2.0));
            points
        };
        one.inputs.iter().zip(ends).map(line).collect()
    });
    Layout {
        middles: items[..boxes.len()].iter().map(middle).collect(),
        lines: lines.collect(),
        width: items.iter().map(|item| item.x - left + item.width / 2.0).fold(0.0, f64::max),
        height: tops[tops.len() - 1] - LAYER_GAP,
    }
}

/// The boxes, then the points of lines; and for each box the points that its own lines have in the layers below it. All
/// lines from one box to boxes further down share them.
fn items(boxes: &[Sized]) -> (Vec<Item>, Vec<Vec<usize>>) {
    let mut layers = vec![0; boxes.len()];
    for (number, one) in boxes.iter().enumerate() {
        layers[number] = one.inputs.iter().map(|&input| layers[input] + 1).max().unwrap_or(0);
    }
    // What has nothing above it stands just above what uses it first.
    let mut first_use = vec![usize::MAX; boxes.len()];
    let mut last_use = layers.clone();
    for (number, one) in boxes.iter().enumerate() {
        for &input in &one.inputs {
            first_use[input] = first_use[input].min(layers[number]);
            last_use[input] = last_use[input].max(layers[number]);
        }
    }
    for (number, one) in boxes.iter().enumerate() {
        if one.inputs.is_empty() && first_use[number] != usize::MAX {
            layers[number] = first_use[number] - 1;
        }
    }
    let item = |width, height, layer| Item { width, height, layer, above: Vec::new(), below: Vec::new(), x: 0.0 };
    let mut items: Vec<_> = boxes.iter().zip(&layers).map(|(one, &layer)| item(one.width, one.height, layer)).collect();
    let mut chains = vec![Vec::new(); boxes.len()];
    for (number, chain) in chains.iter_mut().enumerate() {
        for layer in layers[number] + 1..last_use[number] {
            chain.push(items.len());
            items.push(item(0.0, 0.0, layer));
        }
        let whole: Vec<_> = std::iter::once(number).chain(chain.iter().copied()).collect();
        whole.windows(2).for_each(|pair| connect(&mut items, pair[0], pair[1]));
    }
    for (number, one) in boxes.iter().enumerate() {
        for &input in &one.inputs {
            let passed = layers[number] - layers[input] - 1;
            let last = passed.checked_sub(1).map_or(input, |last| chains[input][last]);
            connect(&mut items, last, number);
        }
    }
    (items, chains)
}

fn connect(items: &mut [Item], above: usize, below: usize) {
    items[above].below.push(below);
    items[below].above.push(above);
}

/// Sorts each layer by the mean place of what its items are connected with in the layer before, from the top or from the
/// bottom. Here `x` is a place in the layer.
fn sort(items: &mut [Item], layers: &mut [Vec<usize>], downwards: bool) {
    for position in in_order(layers.len(), downwards) {
        let layer = &mut layers[position];
        let means: Vec<_> = layer.iter().map(|&item| wanted(items, item, downwards, |_| 1.0)).collect();
        let mut sorted: Vec<_> = layer.iter().copied().zip(means).collect();
        sorted.sort_by(|a, b| a.1.total_cmp(&b.1));
        for (place, (item, _)) in sorted.into_iter().enumerate() {
            layer[place] = item;
            items[item].x = place as f64;
        }
    }
}

/// Moves the items of each layer as near to what they are connected with as their order and their widths allow.
fn settle(items: &mut [Item], layers: &[Vec<usize>], downwards: bool) {
    for position in in_order(layers.len(), downwards) {
        // Less the width of all before it, the places of a layer must only be in order: the nearest such places are those
        // of neighbouring groups, each at the mean of what its members want.
        let mut groups: Vec<(f64, usize)> = Vec::new();
        let mut before = Vec::new();
        let mut offset = 0.0;
        for (place, &item) in layers[position].iter().enumerate() {
            if place > 0 {
                offset += (items[layers[position][place - 1]].width + items[item].width) / 2.0 + GAP;
            }
            before.push(offset);
            let mut group = (wanted(items, item, downwards, |other| other.width) - offset, 1);
            while let Some(&(mean, count)) = groups.last().filter(|(mean, _)| *mean > group.0) {
                let together = count + group.1;
                group = ((mean * count as f64 + group.0 * group.1 as f64) / together as f64, together);
                groups.pop();
            }
            groups.push(group);
        }
        let places = groups.into_iter().flat_map(|(mean, count)| std::iter::repeat_n(mean, count));
        for ((&item, place), before) in layers[position].iter().zip(places).zip(before) {
            items[item].x = place + before;
        }
    }
}

fn in_order(count: usize, downwards: bool) -> impl Iterator<Item = usize> {
    (0..count).map(move |position| if downwards { position } else { count - 1 - position })
}

/// The mean place of what an item is connected with on the side that has just been placed; its own where there is nothing.
/// Lines end at the top of a box in the order of its inputs, so the place below is not quite the middle.
fn wanted(items: &[Item], item: usize, downwards: bool, width: impl Fn(&Item) -> f64) -> f64 {
    let end = |other: usize| {
        let above = &items[other].above;
        let place = above.iter().position(|&above| above == item).unwrap_or(0) as f64;
        items[other].x + width(&items[other]) * ((place + 1.0) / (above.len() as f64 + 1.0) - 0.5)
    };
    let Item { above, below, x, .. } = &items[item];
    match (above.len(), below.len()) {
        (count @ 1.., _) if downwards => above.iter().map(|&other| items[other].x).sum::<f64>() / count as f64,
        (_, count @ 1..) if !downwards => below.iter().map(|&other| end(other)).sum::<f64>() / count as f64,
        _ => *x,
    }
}
