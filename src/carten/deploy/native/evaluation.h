// The order of one evaluation: parts of the work for threads, phases, exchange between processes, results.

constexpr int64_t chunk_atoms = 24;

/// Multiply-adds that are worth another thread: some 100 microseconds.
constexpr double worth_a_thread = 2e6;

static int fail(carten_state& s, const char* format, long long one = 0, long long other = 0) {
  std::snprintf(s.error, sizeof s.error, format, one, other);
  return 1;
}

/// Check what is asked for, and find the first edge of every atom.
static int check(carten_state& s, const Request& q) {
  if (q.n_own < 0 || q.n_all < q.n_own || q.n_edges < 0) return fail(s, "negative numbers of atoms or edges");
  if (q.n_all > q.n_own && !q.exchange) return fail(s, "%lld atoms are ghosts, which need an exchange", q.n_all - q.n_own);
  if (q.n_all && !q.element) return fail(s, "elements are missing");
  if (q.n_own && !q.energies) return fail(s, "there is no array for energies");
  if (q.deviate() && !model_n_deviations) return fail(s, "the model has no members that share a network, and so no deviations");
  if (!model_energies && q.differentiate()) return fail(s, "the model has no energies, and so neither gradients, forces nor virials");
  if (q.n_edges && (!q.centre || !q.neighbour)) return fail(s, "centres or neighbours of edges are missing");
  for (int64_t i = 0; i < q.n_all; ++i)
    if (static_cast<uint32_t>(q.element[i]) >= static_cast<uint32_t>(model_n_elements))
      return fail(s, "atom %lld has the element %lld, which is no position among the elements of the model", i, q.element[i]);
  int64_t* const starts = s.starts.sized(q.n_own + 2);
  int64_t atom = 0;
  starts[0] = 0;
  for (int64_t p = 0; p < q.n_edges; ++p) {
    const int64_t i = q.centre[p];
    if (i < atom) return fail(s, "edges are not sorted by centre: edge %lld has centre %lld after a later one", p, i);
    if (i >= q.n_own) return fail(s, "edge %lld has centre %lld, which is no own atom", p, i);
    if (static_cast<uint64_t>(q.neighbour[p]) >= static_cast<uint64_t>(q.n_all))
      return fail(s, "edge %lld has neighbour %lld, which is no atom", p, q.neighbour[p]);
    while (atom < i) starts[++atom] = p;
  }
  while (atom < q.n_own) starts[++atom] = q.n_edges;
  return 0;
}

/// Divide own atoms among parts, by their edges, and each part into chunks.
static void divide(carten_state& s, const Request& q) {
  int64_t wanted = s.threads.count();
  const double all = static_cast<double>(q.n_edges) * model_edge_work + static_cast<double>(q.n_own) * model_atom_work;
  const int64_t useful = 1 + static_cast<int64_t>(all / worth_a_thread);
  if (wanted > useful) wanted = useful;
  if (wanted > q.n_own) wanted = q.n_own;
  if (wanted < 1) wanted = 1;
  if (wanted > s.n_parts) {
    delete[] s.parts;
    s.parts = nullptr, s.n_parts = 0;
    s.parts = new Part[wanted];
  }
  s.n_parts = wanted;
  Chunk* const chunks = s.chunks.sized(q.n_own / chunk_atoms + 2 * wanted + 2);
  const int64_t* const starts = s.starts.data();
  const double work = static_cast<double>(q.n_edges) + 8.0 * static_cast<double>(q.n_own);
  int64_t n = 0, atom = 0;
  for (int64_t t = 0; t < wanted; ++t) {
    s.parts[t].first = n;
    s.parts[t].failure = {};
    const double goal = work * static_cast<double>(t + 1) / static_cast<double>(wanted);
    int64_t end = atom;
    while (end < q.n_own && (t + 1 == wanted || static_cast<double>(starts[end + 1]) + 8.0 * static_cast<double>(end + 1) <= goal)) ++end;
    const int64_t pieces = (end - atom + chunk_atoms - 1) / chunk_atoms;
    for (int64_t k = 0; k < pieces; ++k) {
      const int64_t from = atom + (end - atom) * k / pieces, to = atom + (end - atom) * (k + 1) / pieces;
      chunks[n] = Chunk{};
      chunks[n].first = from, chunks[n].n = to - from;
      chunks[n].edge = starts[from], chunks[n].n_edges = starts[to] - starts[from];
      ++n;
    }
    s.parts[t].last = n;
    atom = end;
  }
  s.n_chunks = n;
}

/// Values of inputs for this evaluation. Returns whether they are there and fit.
static bool take_inputs(carten_state& s, const Request& q, View& v) {
  const double* defaults = data.doubles(entry_defaults);
  v.level = 0;
  for (int k = 0; k < model_n_inputs; ++k) {
    const Input& input = model_inputs[k];
    const int64_t rows = input.per_atom ? q.n_all : 1, have = s.given_rows[k];
    if (!have && model_input_infos[k].required) {
      std::snprintf(s.error, sizeof s.error, "the input %s is missing: set it with carten_set_input", model_input_infos[k].name);
      return false;
    }
    if (have > 1 && have != rows) {
      std::snprintf(s.error, sizeof s.error, "the input %s has %lld rows of values, for %lld atoms", model_input_infos[k].name,
                    static_cast<long long>(have), static_cast<long long>(rows));
      return false;
    }
    const int width = model_input_infos[k].components, n_categories = model_input_infos[k].n_categories;
    const double* const given = have ? s.given[k].data() : nullptr;
    const auto value = [&](int64_t row, int a) { return given ? given[(have > 1 ? row : 0) * width + a] : defaults[k]; };
    if (n_categories) {
      int64_t* const x = s.category[k].sized(rows + 1);
      for (int64_t r = 0; r < rows; ++r) {
        const double y = value(r, 0);
        if (!(y >= 0 && y < n_categories && y == std::floor(y))) {
          std::snprintf(s.error, sizeof s.error, "the input %s is %g: expected a position among %d categories", model_input_infos[k].name, y, n_categories);
          return false;
        }
        x[r] = static_cast<int64_t>(y);
      }
      if (input.category >= 0) s.categories[input.category] = x;
      if (input.level) v.level = x[0];
    }
    if (input.array >= 0) {
      S* const x = s.arrays[input.array].data();
      for (int64_t r = 0; r < rows; ++r)
        for (int a = 0; a < width; ++a) x[r * width + a] = S(value(r, a));
    }
  }
  return true;
}

/// Memory for all arrays. Throws std::bad_alloc.
static void allocate(carten_state& s, const Request& q, Evaluation& v) {
  const int64_t edges = q.n_edges + 16;
  v.n_own = q.n_own, v.n_all = q.n_all;
  v.n_intervals = data.table[entry_n_intervals];
  v.gradients = q.differentiate() || q.deviate(), v.energies = q.energies, v.counted = q.counted, v.readouts = q.readouts;
  v.s = &s, v.request = &q;
  for (int k = 0; k < model_n_arrays; ++k) {
    const int64_t rows = model_kept[k].rows == structure_rows ? 1 : model_kept[k].rows == own_rows && !q.exchange ? q.n_own : q.n_all;
    s.array[k] = s.arrays[k].sized((rows + 1) * model_kept[k].width);
  }
  v.array = s.array;
  int64_t* const element = s.element.sized(q.n_all + 1);
  for (int64_t i = 0; i < q.n_all; ++i) element[i] = q.element[i];
  v.element = element, v.zero = s.zero.zeroed(q.n_all + 1), v.category = s.categories;
  v.centre = s.centre.sized(edges), v.neighbour = s.neighbour.sized(edges), v.low = s.low.sized(edges);
  v.unit = s.unit.sized(3 * edges), v.length = s.length.sized(edges);
  v.fraction = s.fraction.sized(edges);
  if (!model_tabulated) v.basis = s.basis.sized(edges * model_n_basis), v.slope = s.slope.sized(edges * model_n_basis);
  if (model_element_dependent) v.centre_element = s.centre_element.sized(edges), v.neighbour_element = s.neighbour_element.sized(edges);
  if (model_zbl) v.seen = s.seen.sized(edges), v.core = s.core.sized(3 * edges);
  if (v.gradients) v.d_unit = s.d_unit.sized(3 * edges), v.d_length = s.d_length.sized(edges);
  if (q.gradients) v.origin = s.origin.sized(edges);
  int64_t atoms = 1, most = 1;
  for (int64_t k = 0; k < s.n_chunks; ++k) {
    const Chunk& c = s.chunks.data()[k];
    atoms = c.n > atoms ? c.n : atoms, most = c.n_edges > most ? c.n_edges : most;
  }
  if (atoms < chunk_atoms) atoms = chunk_atoms;
  S* const one = s.one.sized(most + 16);
  for (int64_t k = 0; k < most; ++k) one[k] = 1;
  v.one = one;
  int64_t memory = 0;
  for (const int64_t* need : model_memory) {
    const int64_t size = need[0] * padded(atoms) + need[1] * padded(most);
    memory = size > memory ? size : memory;
  }
  int64_t width = 0;
  for (int k = 0; k < model_n_layers; ++k) {
    int64_t sum = 0;
    for (const Scattered* x = model_scattered[k]; x->array >= 0; ++x) sum += x->width;
    width = sum > width ? sum : width;
  }
  for (int64_t t = 0; t < s.n_parts; ++t) {
    Part& part = s.parts[t];
    part.local.sized(memory + 16);
    if (t && width && v.gradients) part.copies.sized(width * (q.n_all + 1));
    if (q.forces || q.deviations) part.forces.sized(3 * (q.n_all + 1));
  }
}

static void collect(const Evaluation& v, int layer, int64_t first, int64_t n) {
  carten_state& s = *v.s;
  int64_t offset = 0;
  for (const Scattered* x = model_scattered[layer]; x->array >= 0; ++x) {
    S* const total = s.array[x->array] + first * x->width;
    for (int64_t t = 1; t < s.n_parts; ++t) {
      const S* const copy = s.parts[t].copies.data() + offset + first * x->width;
      for (int64_t k = 0; k < n * x->width; ++k) total[k] += copy[k];
    }
    offset += x->width * v.n_all;
  }
}

/// Empty copies of what the edges of a layer add to.
static void open_copies(const Evaluation& v, int layer, int64_t t) {
  Part& part = v.s->parts[t];
  int64_t offset = 0;
  for (const Scattered* x = model_scattered[layer]; x->array >= 0; ++x) {
    S* const copy = t ? part.copies.data() + offset : v.s->array[x->array];
    std::memset(static_cast<void*>(copy), 0, static_cast<size_t>(x->width * v.n_all) * sizeof(S));
    part.copy[x->number] = copy;
    offset += x->width * v.n_all;
  }
}

/// A phase on rows of arrays, some at a time.
static bool on_rows(const View& v, Phase phase, S* local, int64_t first, int64_t end) {
  for (int64_t row = first; row < end; row += chunk_atoms) {
    Chunk c;
    c.first = row, c.n = end - row < chunk_atoms ? end - row : chunk_atoms, c.local = local;
    if (!phase(v, c)) return false;
  }
  return true;
}

static const char wrong_index[] = "an index points outside its array";

template <class Work> static int on_parts(carten_state& s, const Work& work) {
  s.threads.run(s.n_parts, [&](int64_t t) {
    Part& part = s.parts[t];
    if (!work(t, part) && !part.failure.why) part.failure = {wrong_index, 0, 0};
  });
  for (int64_t t = 0; t < s.n_parts; ++t)
    if (s.parts[t].failure.why) return fail(s, s.parts[t].failure.why, s.parts[t].failure.one, s.parts[t].failure.other);
  return 0;
}

static void exchange_rows(const carten_exchange& exchange, bool forward, carten_state& s, const int* arrays) {
  void* parts[64];
  int64_t widths[64];
  int32_t n = 0;
  for (; arrays[n] >= 0 && n < 64; ++n) parts[n] = s.array[arrays[n]], widths[n] = model_kept[arrays[n]].width;
  (forward ? exchange.forward : exchange.reverse)(exchange.context, n, parts, widths);
}

static int forward(carten_state& s, const Request& q, Evaluation& v) {
  const int last = model_n_layers - 1;
  S* const local = s.parts[0].local.data();
  if (!on_rows(v, structure, local, 0, 1)) return fail(s, wrong_index);
  if (!on_rows(v, start, local, 0, q.n_all)) return fail(s, wrong_index);
  for (int k = 0; k <= last; ++k) {
    if (k && q.exchange) {
      exchange_rows(*q.exchange, true, s, model_exchanged[k]);
      if (!on_rows(v, model_sends[k], local, q.n_own, q.n_all)) return fail(s, wrong_index);
    }
    const int failed = on_parts(s, [&](int64_t t, Part& part) {
      if (k == last && v.gradients) open_copies(v, k, t);
      if (k == last && last == 0 && v.gradients) open_results(v, part);
      for (int64_t n = part.first; n < part.last; ++n) {
        Chunk& c = s.chunks.data()[n];
        c.local = part.local.data(), c.copies = part.copy;
        if (k == 0 && !geometry(v, c, part)) return false;
        if (!model_layers[k](v, c)) return false;
        if (k < last && !model_sends[k + 1](v, c)) return false;
        if (last == 0 && v.gradients) finish(v, c, part);
      }
      return true;
    });
    if (failed) return failed;
  }
  return 0;
}

static int backward(carten_state& s, const Request& q, Evaluation& v) {
  for (int k = model_n_layers - 1; k > 0; --k) {
    if (q.exchange) {
      collect(v, k, 0, q.n_all);
      if (!on_rows(v, model_receives[k], s.parts[0].local.data(), 0, q.n_all)) return fail(s, wrong_index);
      exchange_rows(*q.exchange, false, s, model_returned[k]);
    }
    const bool apart = model_scattered[k - 1][0].array >= 0;  // copies serve the next layer as well
    const auto receive = [&](Chunk& c) {
      collect(v, k, c.first, c.n);
      return model_receives[k](v, c);
    };
    if (!q.exchange && apart) {
      const int failed = on_parts(s, [&](int64_t, Part& part) {
        for (int64_t n = part.first; n < part.last; ++n)
          if (!receive(s.chunks.data()[n])) return false;
        return true;
      });
      if (failed) return failed;
    }
    const int failed = on_parts(s, [&](int64_t t, Part& part) {
      open_copies(v, k - 1, t);
      if (k == 1) open_results(v, part);
      for (int64_t n = part.first; n < part.last; ++n) {
        Chunk& c = s.chunks.data()[n];
        if (!q.exchange && !apart && !receive(c)) return false;
        if (!model_backs[k - 1](v, c)) return false;
        if (k == 1) finish(v, c, part);
      }
      return true;
    });
    if (failed) return failed;
  }
  return 0;
}

/// Add up what parts have left.
static void results(carten_state& s, const Request& q, const Evaluation& v) {
  if (q.forces)
    for (int64_t k = 0; k < 3 * q.n_all; ++k) {
      double sum = 0;
      for (int64_t t = 0; t < s.n_parts; ++t) sum += s.parts[t].forces.data()[k];
      q.forces[k] = sum;
    }
  if (q.virial)
    for (int a = 0; a < 3; ++a)
      for (int b = 0; b < 3; ++b) {
        double sum = 0;
        for (int64_t t = 0; t < s.n_parts; ++t) sum += 0.5 * (s.parts[t].virial[3 * a + b] + s.parts[t].virial[3 * b + a]);
        q.virial[3 * a + b] = sum;
      }
  if (q.virials) {
    std::memset(q.virials, 0, static_cast<size_t>(9 * q.n_own) * sizeof(double));
    for (int64_t n = 0; n < s.n_chunks; ++n) {
      const Chunk& c = s.chunks.data()[n];
      for (int64_t k = c.edge; k < c.edge + c.n_edges; ++k)
        for (int a = 0; a < 3; ++a)
          for (int b = 0; b < 3; ++b) {
            const double share = -0.5 * v.d_unit[3 * k + a] * v.unit[3 * k + b] * v.length[k];
            q.virials[9 * (c.first + v.centre[k]) + 3 * a + b] += share;
            q.virials[9 * v.neighbour[k] + 3 * a + b] += share;
          }
    }
  }
}

/// Forces and virials of what the members of an ensemble differ by, one after the other.
static int deviate(carten_state& s, const Request& q, Evaluation& v) {
  const int last = model_n_layers - 1;
  for (int m = 0; m < model_n_deviations; ++m) {
    Request member = q;
    member.gradients = member.virials = nullptr;
    member.forces = q.deviations ? q.deviations + 3 * q.n_all * m : nullptr;
    member.virial = q.virial_deviations ? q.virial_deviations + 9 * m : nullptr;
    v.request = &member, v.gradients = true, v.deviation = m;
    const int failed = on_parts(s, [&](int64_t t, Part& part) {
      open_copies(v, last, t);
      if (last == 0) open_results(v, part);
      for (int64_t n = part.first; n < part.last; ++n) {
        Chunk& c = s.chunks.data()[n];
        if (!model_deviations(v, c)) return false;
        if (last == 0) finish(v, c, part);
      }
      return true;
    });
    if (failed || backward(s, member, v)) return 1;
    results(s, member, v);
  }
  return 0;
}

static int evaluate(carten_state& s, const Request& q) {
  s.error[0] = 0;
  try {
    if (check(s, q)) return 1;
    divide(s, q);
    Evaluation v;
    allocate(s, q, v);
    if (!take_inputs(s, q, v)) return 1;
    for (int k = 0; k < model_n_weights; ++k) s.weights[k] = stored_weight(k, v.level);
    for (int n = 0; n < model_n_transposes; ++n) s.weights[model_transposes[n].number] = transposes.of_level(n, v.level);
    v.weights = s.weights;
    if (q.gradients) std::memset(q.gradients, 0, static_cast<size_t>(3 * q.n_edges) * sizeof(double));
    v.gradients = q.differentiate();
    if (forward(s, q, v)) return 1;
    if (v.gradients && backward(s, q, v)) return 1;
    if (v.gradients) results(s, q, v);
    if (q.deviate() && deviate(s, q, v)) return 1;
  } catch (const std::bad_alloc&) {
    return fail(s, "there is no memory for %lld atoms and %lld edges", q.n_all, q.n_edges);
  }
  return 0;
}

// The C interface ----------------------------------------------------------------------------------------------------

extern "C" const carten_info* carten_describe(void) {
  static const carten_info info = {
      CARTEN_INTERFACE, static_cast<int32_t>(sizeof(S)), model_n_layers, model_n_elements, model_n_readouts, model_n_inputs, model_n_deviations, model_cutoff,
      static_cast<const int32_t*>(data.at(entry_numbers)), model_readout_infos, model_input_infos, model_n_exchanged,
      static_cast<const char*>(data.at(entry_header))};
  return &info;
}

extern "C" carten_state* carten_create(void) { return new (std::nothrow) carten_state; }
extern "C" void carten_destroy(carten_state* s) { delete s; }
extern "C" const char* carten_error(const carten_state* s) { return s ? s->error : "there is no state"; }

extern "C" int carten_threads(carten_state* s, int32_t threads) {
  if (threads < 1) return fail(*s, "%lld threads cannot work: expected 1 or more", threads);
  s->threads.resize(threads);
  return 0;
}

extern "C" int carten_set_input(carten_state* s, const char* name, int64_t rows, const double* values) {
  for (int k = 0; k < model_n_inputs; ++k) {
    if (std::strcmp(model_input_infos[k].name, name)) continue;
    s->given_rows[k] = 0;
    if (!values) return 0;
    if (rows < 1 || (rows > 1 && !model_inputs[k].per_atom)) return fail(*s, "an input cannot have %lld rows of values", rows);
    try {
      std::memcpy(s->given[k].sized(rows * model_input_infos[k].components), values,
                  static_cast<size_t>(rows * model_input_infos[k].components) * sizeof(double));
    } catch (const std::bad_alloc&) {
      return fail(*s, "there is no memory for an input");
    }
    s->given_rows[k] = rows;
    return 0;
  }
  std::snprintf(s->error, sizeof s->error, "the model has no input %.100s", name);
  return 1;
}

extern "C" int carten_evaluate(carten_state* s, int64_t n_own, int64_t n_all, const int32_t* element, int64_t n_edges,
                               const int64_t* centre, const int64_t* neighbour, const double* vectors,
                               const carten_exchange* exchange, const int32_t* counted, double* energies,
                               double* gradients, double* const* readouts, double* deviations) {
  Request q;
  q.n_own = n_own, q.n_all = n_all, q.element = element, q.n_edges = n_edges, q.centre = centre;
  q.neighbour = neighbour, q.vectors = vectors, q.exchange = exchange, q.counted = counted;
  q.energies = energies, q.gradients = gradients, q.readouts = readouts, q.deviations = deviations;
  if (n_edges > 0 && !vectors) return fail(*s, "vectors of edges are missing");
  return evaluate(*s, q);
}

extern "C" int carten_step(carten_state* s, int64_t n_atoms, const int32_t* element, const double* positions,
                           const double* cell, int64_t n_pairs, const int64_t* centre, const int64_t* neighbour,
                           const int32_t* shifts, double* energies, double* forces, double* virial, double* virials,
                           double* const* readouts, double* deviations, double* virial_deviations) {
  Request q;
  q.n_own = q.n_all = n_atoms, q.element = element, q.n_edges = n_pairs, q.centre = centre, q.neighbour = neighbour;
  q.positions = positions, q.cell = cell, q.shifts = shifts;
  q.energies = energies, q.forces = forces, q.virial = virial, q.virials = virials, q.readouts = readouts;
  q.deviations = deviations, q.virial_deviations = virial_deviations;
  if (n_atoms > 0 && !positions) return fail(*s, "positions are missing");
  if (shifts && !cell) return fail(*s, "pairs are shifted by lattice vectors, but there is no cell");
  return evaluate(*s, q);
}
