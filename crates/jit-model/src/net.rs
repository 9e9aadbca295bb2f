//! The network `net(z, t, y) → x̂`: patches in, blocks, pixels out.

use crate::block::{self, Block, Inputs};
use crate::config::ModelConfig;
use crate::device::Device;
use crate::dropout::{BlockDropout, DropoutKeys};
use crate::final_layer::{self, FinalLayer};
use crate::init::Init;
use crate::params::{Grads, ParamId, Params, Registry};
use crate::patch_embed::{self, PatchEmbed};
use crate::rope;
use crate::time_embed::{self, TimeEmbed};

/// The JiT network: layers and their parameters' declarations, no values.
#[derive(Clone, Debug)]
pub struct Net {
    config: ModelConfig,
    registry: Registry,
    patch_embed: PatchEmbed,
    time_embed: TimeEmbed,
    class_table: ParamId,
    context_positions: Option<ParamId>,
    blocks: Vec<Block>,
    /// Index in the registry of each block's first parameter, and last of the final layer's.
    starts: Vec<usize>,
    final_layer: FinalLayer,
}

/// Hears from a backward pass: the gradients of all parameters from this index in the registry on
/// are final, nothing adds to them any more.
pub type Finished<'a, D> = &'a mut dyn FnMut(&Grads<D>, usize);

/// The rotary tables on a device, without and with the class tokens: `[2, N, D/H]`.
pub struct Rope<T> {
    image: T,
    with_context: T,
}

/// How a forward pass is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mode<'a> {
    /// Dropout masks; `None` when not training.
    pub dropout: Option<&'a DropoutKeys>,
    /// What is kept of each block for the backward pass.
    pub keep: Keep,
}

/// What a forward pass keeps of each block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Everything that the backward pass reads.
    #[default]
    Everything,
    /// The block's input; the backward pass recomputes the rest (`train.checkpoint_blocks`).
    Input,
    /// Nothing: there will be no backward pass.
    Nothing,
}

/// What the backward pass of the network needs.
pub struct Saved<T> {
    labels: Vec<u32>,
    patch_embed: patch_embed::Saved<T>,
    time_embed: time_embed::Saved<T>,
    /// c = time + class, `[B, D]`
    c: T,
    /// SiLU(c)
    condition: T,
    blocks: Vec<SavedBlock<T>>,
    dropout: Vec<Option<BlockDropout>>,
    final_layer: final_layer::Saved<T>,
}

enum SavedBlock<T> {
    Whole(block::Saved<T>),
    Input(T),
}

impl Net {
    /// Declares the network. The configuration must be valid ([`ModelConfig::validate`]).
    pub fn new(config: &ModelConfig) -> Self {
        let mut r = Registry::default();
        let dim = config.hidden_size;
        let (rows, context) = (config.num_classes + 1, config.in_context_len);
        let mut starts = Vec::with_capacity(config.depth + 1);
        Self {
            patch_embed: PatchEmbed::new(&mut r, config),
            time_embed: TimeEmbed::new(&mut r, dim),
            class_table: r.add(
                "net.y_embedder.embedding_table.weight".into(),
                &[rows, dim],
                Init::Normal(0.02),
            ),
            context_positions: (context > 0).then(|| {
                r.add("net.in_context_posemb".into(), &[1, context, dim], Init::Normal(0.02))
            }),
            blocks: (0..config.depth)
                .map(|i| {
                    starts.push(r.specs().len());
                    Block::new(&mut r, &format!("net.blocks.{i}"), config)
                })
                .collect(),
            starts: {
                starts.push(r.specs().len());
                starts
            },
            final_layer: FinalLayer::new(&mut r, config),
            config: config.clone(),
            registry: r,
        }
    }

    /// The network's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Its parameters.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// To declare further parameters (auxiliary heads) behind the network's own.
    pub(crate) fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// The rotary tables, uploaded once.
    pub fn rope<D: Device>(&self, dev: &D) -> Rope<D::Tensor> {
        let c = &self.config;
        let table = |context| {
            let shape = [2, context + c.tokens(), c.head_dim()];
            dev.upload(&rope::table(c.head_dim(), c.grid(), context), &shape)
        };
        Rope { image: table(0), with_context: table(c.in_context_len) }
    }

    /// z `[B, C, S, S]`, t `[B]`, labels `[B]` → the network's output `[B, C, S, S]`
    pub fn forward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        rope: &Rope<D::Tensor>,
        z: &D::Tensor,
        t: &[f32],
        labels: &[u32],
        mode: Mode<'_>,
    ) -> (D::Tensor, Saved<D::Tensor>) {
        let (mut x, patch_embed) = self.patch_embed.forward(dev, p, z);
        let (time, time_embed) = self.time_embed.forward(dev, p, t);
        let class = dev.gather_rows(dev.value(&p[self.class_table]), labels);
        let c = dev.axpby(1.0, &time, 1.0, &class);
        let condition = dev.silu(&c);

        let mut blocks = Vec::with_capacity(self.blocks.len());
        let dropout: Vec<_> = (0..self.blocks.len())
            .map(|i| mode.dropout.and_then(|keys| BlockDropout::new(&self.config, keys, i)))
            .collect();
        for (i, layer) in self.blocks.iter().enumerate() {
            if let Some(context) = self.context_before(dev, p, i, labels) {
                x = dev.concat_tokens(&context, &x);
            }
            let inputs = self.inputs(dev, p, rope, &condition, dropout[i].as_ref(), i);
            let (out, saved) = layer.forward(&inputs, x);
            match mode.keep {
                Keep::Everything => blocks.push(SavedBlock::Whole(saved)),
                Keep::Input => blocks.push(SavedBlock::Input(saved.into_input())),
                Keep::Nothing => {}
            }
            x = out;
        }
        if self.context_positions.is_some() {
            x = dev.split_tokens(&x, self.config.in_context_len).1;
        }
        let (image, final_layer) = self.final_layer.forward(dev, p, x, &condition);
        let labels = labels.to_vec();
        let saved =
            Saved { labels, patch_embed, time_embed, c, condition, blocks, dropout, final_layer };
        (image, saved)
    }

    /// The output alone, block by block, keeping nothing for a backward pass.
    pub fn infer<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        rope: &Rope<D::Tensor>,
        z: &D::Tensor,
        t: &[f32],
        labels: &[u32],
    ) -> D::Tensor {
        let mode = Mode { keep: Keep::Nothing, ..Mode::default() };
        self.forward(dev, p, rope, z, t, labels, mode).0
    }

    /// The feature of the auxiliary heads: mean over the image tokens before the final layer, `[B, D]`.
    pub fn feature<D: Device>(&self, dev: &D, saved: &Saved<D::Tensor>) -> D::Tensor {
        dev.mean_tokens(FinalLayer::input(&saved.final_layer))
    }

    /// Adds every parameter's gradient after a pass that kept the blocks, given those of the output image and of the feature
    /// (either may be absent: a pass that only the auxiliary loss sees has no image gradient).
    ///
    /// Parameters are declared in the order of the forward pass, so that their gradients become final from
    /// the last to the first; `finished` hears of it after the final layer, after each block, and at the end.
    pub fn backward<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        g: &mut Grads<D>,
        rope: &Rope<D::Tensor>,
        saved: Saved<D::Tensor>,
        dimage: Option<&D::Tensor>,
        dfeature: Option<&D::Tensor>,
        finished: Finished<'_, D>,
    ) {
        let mut dcondition = dev.zeros(dev.shape(&saved.c));
        let tokens = FinalLayer::input(&saved.final_layer);
        let mut dx = match dimage {
            Some(dimage) => self.final_layer.backward(
                dev,
                p,
                g,
                &saved.final_layer,
                &saved.condition,
                dimage,
                &mut dcondition,
            ),
            None => dev.zeros(dev.shape(tokens)),
        };
        finished(g, self.starts[self.blocks.len()]);
        if let Some(dfeature) = dfeature {
            dev.mean_tokens_grad(dfeature, &mut dx);
        }
        if self.context_positions.is_some() {
            let shape = dev.shape(&dx);
            let context = dev.zeros(&[shape[0], self.config.in_context_len, shape[2]]);
            dx = dev.concat_tokens(&context, &dx);
        }
        for (i, (layer, block)) in self.blocks.iter().zip(saved.blocks).enumerate().rev() {
            let inputs = self.inputs(dev, p, rope, &saved.condition, saved.dropout[i].as_ref(), i);
            let block = match block {
                SavedBlock::Whole(saved) => saved,
                SavedBlock::Input(x) => layer.forward(&inputs, x).1,
            };
            dx = layer.backward(&inputs, g, &block, dx, &mut dcondition);
            finished(g, self.starts[i]);
            if let Some(positions) = self.context_positions
                && i == self.config.in_context_start
            {
                let (dcontext, dimage) = dev.split_tokens(&dx, self.config.in_context_len);
                dev.add_rows_grad(&dcontext, g.get_mut(positions));
                let dclass = g.get_mut(self.class_table);
                dev.gather_rows_grad(&dcontext, &self.repeat(&saved.labels), dclass);
                dx = dimage;
            }
        }
        self.patch_embed.backward(dev, p, g, &saved.patch_embed, &dx);
        let dc = dev.silu_grad(&saved.c, &dcondition);
        self.time_embed.backward(dev, p, g, &saved.time_embed, &dc);
        dev.gather_rows_grad(&dc, &saved.labels, g.get_mut(self.class_table));
        finished(g, 0);
    }

    /// The class tokens `[B, context, D]`, if they enter before block `i`.
    fn context_before<D: Device>(
        &self,
        dev: &D,
        p: &Params<D>,
        i: usize,
        labels: &[u32],
    ) -> Option<D::Tensor> {
        let positions = self.context_positions.filter(|_| i == self.config.in_context_start)?;
        let table = dev.value(&p[self.class_table]);
        let shape = [labels.len(), self.config.in_context_len, self.config.hidden_size];
        let tokens = dev.reshape(dev.gather_rows(table, &self.repeat(labels)), &shape);
        Some(dev.add_rows(tokens, dev.value(&p[positions])))
    }

    /// Each label once per class token.
    fn repeat(&self, labels: &[u32]) -> Vec<u32> {
        labels.iter().flat_map(|&y| std::iter::repeat_n(y, self.config.in_context_len)).collect()
    }

    fn inputs<'a, D: Device>(
        &self,
        dev: &'a D,
        params: &'a Params<D>,
        rope: &'a Rope<D::Tensor>,
        condition: &'a D::Tensor,
        dropout: Option<&'a BlockDropout>,
        i: usize,
    ) -> Inputs<'a, D> {
        let context = self.context_positions.is_some() && i >= self.config.in_context_start;
        let rope = if context { &rope.with_context } else { &rope.image };
        Inputs { dev, params, condition, rope, dropout }
    }
}
