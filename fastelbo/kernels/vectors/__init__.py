"""A number type that is one value of each of W draws: a user's scalar function computes W at once.

LLVM vectorises no loop over draws around a user's function. Here the function is compiled for
`types.Lanes` in place of float64, from the same source: an addition is one instruction for W draws.

- `types`: the types, and how they lie in memory.
- `trace`: the scalars of ``kernels.math`` as code on vectors.
- `arithmetic`, `fused`, `functions`, `choices`: what a value can do. `operations` registers it
  with the compiler, by keys of its own.
- `duals`: values with their partial derivatives, by the rules of `derivatives`. Every operation is
  theirs, too, and values keep their bits.
- `arrays`, `operands`, `elementwise`, `temporaries`: z, and other vectors of such values.
- `syntax`, `dataflow`, `purity`, `assigned`, `randomness`: what the source of a function says.
  `rewriting` rewrites it; `selects` rewrites branches that depend on z.
- `integers`, `agreement`: what Python and machine code would compute in different ways.
- `snapshot`: a function with what it reads as it is now, `fingerprint`: a digest of all that.
  `binding`, `arguments`, `block`: its machine code for a block of draws. `building` keeps the code
  on disk, `calls` calls it by its address. `gradient_block` is the same with the gradient.
  `errors`: what a user reads where it has none.
"""
