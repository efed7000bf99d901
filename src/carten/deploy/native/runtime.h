// One evaluation of a model: geometry of edges, the phases on chunks of atoms, and what follows from their gradients.
// Constants that begin with `model_`, and the phases, are generated; see source.py and library.py.

/// Constants of the model, by offset into the read-only data of the library.
struct Data {
  const char* base;
  const int64_t* table;
  explicit Data(const char* base) : base(base), table(reinterpret_cast<const int64_t*>(base + 16)) {}
  const void* at(int64_t entry) const { return base + table[entry]; }
  const double* doubles(int64_t entry) const { return static_cast<const double*>(at(entry)); }
};
static const Data data(carten_data);

static const S* stored_weight(int64_t number, int64_t level) {
  const int64_t* const entry = data.table + entry_weights + 2 * number;
  return static_cast<const S*>(static_cast<const void*>(data.base + entry[0] + level * entry[1]));
}

/// Transposes of weights, made once, when the library is loaded.
struct Transposes {
  Buffer<S> copies[model_n_transposes + 1];
  Transposes() {
    for (int n = 0; n < model_n_transposes; ++n) {
      const Transpose& t = model_transposes[n];
      S* y = copies[n].sized(t.levels * t.matrices * t.rows * t.columns);
      for (int64_t level = 0; level < t.levels; ++level) {
        const S* x = stored_weight(t.stored, level);
        for (int64_t m = 0; m < t.matrices; ++m, x += t.rows * t.columns)
          for (int64_t j = 0; j < t.columns; ++j)
            for (int64_t i = 0; i < t.rows; ++i) *y++ = x[i * t.columns + j];
      }
    }
  }
  const S* of_level(int n, int64_t level) const {
    const Transpose& t = model_transposes[n];
    return copies[n].data() + (t.levels > 1 ? level * t.matrices * t.rows * t.columns : 0);
  }
};
static const Transposes transposes;

struct Failure {
  const char* why = nullptr;
  int64_t one = 0, other = 0;
};

/// What one thread works with.
struct Part {
  Buffer<S> local, copies;
  Buffer<double> forces;
  S* copy[model_n_scattered + 1];
  int64_t first = 0, last = 0;  ///< chunks
  double virial[9];
  Failure failure;
};

struct carten_state {
  Threads threads;
  Part* parts = nullptr;
  int64_t n_parts = 0;
  const S* weights[model_n_weights + 1];
  Buffer<S> arrays[model_n_arrays + 1];
  S* array[model_n_arrays + 1];
  Buffer<S> unit, one, fraction, length, basis, slope, d_unit, d_length, seen;
  Buffer<double> core;
  Buffer<int64_t> centre, neighbour, low, zero, element, origin, starts, centre_element, neighbour_element;
  Buffer<Chunk> chunks;
  int64_t n_chunks = 0;
  Buffer<double> given[model_n_inputs + 1];
  int64_t given_rows[model_n_inputs + 1] = {};
  Buffer<int64_t> category[model_n_inputs + 1];
  const int64_t* categories[model_n_inputs + 1];
  char error[512] = "";
  ~carten_state() { delete[] parts; }
};

/// What an evaluation is asked for.
struct Request {
  int64_t n_own = 0, n_all = 0;
  const int32_t* element = nullptr;
  int64_t n_edges = 0;
  const int64_t *centre = nullptr, *neighbour = nullptr;
  const double* vectors = nullptr;  ///< or
  const double *positions = nullptr, *cell = nullptr;
  const int32_t* shifts = nullptr;
  const carten_exchange* exchange = nullptr;
  const int32_t* counted = nullptr;
  double *energies = nullptr, *gradients = nullptr, *forces = nullptr, *virial = nullptr, *virials = nullptr;
  double* const* readouts = nullptr;
  double *deviations = nullptr, *virial_deviations = nullptr;
  bool differentiate() const { return gradients || forces || virial || virials; }
  bool deviate() const { return deviations || virial_deviations; }
};

/// Everything about the evaluation that the phases don't need.
struct Evaluation : View {
  carten_state* s = nullptr;
  const Request* request = nullptr;
  S *length = nullptr, *d_unit = nullptr, *d_length = nullptr, *seen = nullptr, *slope = nullptr;
  double* core = nullptr;
  int64_t* origin = nullptr;
};

static INLINE const Evaluation& whole(const View& v) { return static_cast<const Evaluation&>(v); }

// What phases call ---------------------------------------------------------------------------------------------------

static int64_t kind_of(const View& v, int64_t atom) { return v.element[atom] + model_n_elements * v.level; }

static void energies(const View& v, const Chunk& c, const S* x) {
  const double scale = *data.doubles(entry_scales), *shift = data.doubles(entry_shifts);
  for (int64_t i = 0; i < c.n; ++i) {
    const int64_t atom = c.first + i;
    v.energies[atom] = v.counted && !v.counted[atom] ? 0.0 : v.energies[atom] + shift[kind_of(v, atom)] + scale * double(x[i]);
  }
}

static void seed_energies(const View& v, const Chunk& c, S* x) {
  const S scale = S(*data.doubles(entry_scales));
  for (int64_t i = 0; i < c.n; ++i) x[i] = v.counted && !v.counted[c.first + i] ? S(0) : scale;
}

static INLINE void seed_energies_deviations(const View& v, const Chunk& c, S* x) {
  const S scale = S(*data.doubles(entry_scales) * model_calibration);
  for (int64_t i = 0; i < c.n; ++i)
    for (int m = 0; m < model_n_deviations; ++m)
      *x++ = m != v.deviation || (v.counted && !v.counted[c.first + i]) ? S(0) : scale;
}

/// Values of a property from its packed parts: `R::n_parts` of `R::size[p]` numbers, the first scalars `R::n_scalars`.
template <class R> static void readout(const View& v, const Chunk& c, const S* const* parts) {
  double* const out = v.readouts[R::number];
  const double scale = data.doubles(entry_scales)[R::head];
  const double *shift = data.doubles(entry_head + 2 * R::head), *assembly = data.doubles(entry_head + 2 * R::head + 1);
  for (int64_t i = 0; i < c.n; ++i) {
    double* const y = out + (c.first + i) * R::components;
    double flat[R::n_flat];
    int64_t k = 0;
    for (int p = 0; p < R::n_parts; ++p)
      for (int64_t m = 0; m < R::size[p]; ++m) flat[k++] = scale * double(parts[p][i * R::size[p] + m]);
    for (int m = 0; m < R::n_scalars; ++m) flat[m] += shift[kind_of(v, c.first + i) * R::n_scalars + m];
    for (int a = 0; a < R::components; ++a) {
      double sum = 0;
      for (int m = 0; m < R::n_flat; ++m) sum += flat[m] * assembly[m * R::components + a];
      y[a] = R::positive ? (sum > 30 ? sum : std::log1p(std::exp(sum))) : sum;
    }
  }
}

/// Add up gradients of unit vectors, and of lengths, over the layers.
template <bool first>
static void leave(const View& view, const Chunk& c, const S* d_unit, const S* d_fraction, const S* d_basis) {
  const Evaluation& v = whole(view);
  S* const unit = v.d_unit + 3 * c.edge;
  S* const length = v.d_length + c.edge;
  for (int64_t k = 0; k < 3 * c.n_edges; ++k) unit[k] = (first ? S(0) : unit[k]) + (d_unit ? d_unit[k] : S(0));
  const S width = S(static_cast<double>(v.n_intervals) / model_cutoff);
  if (model_tabulated) {
    for (int64_t k = 0; k < c.n_edges; ++k)
      length[k] = (first ? S(0) : length[k]) + (d_fraction ? d_fraction[k] * width : S(0));
  } else {
    const S* const slope = v.slope + c.edge * model_n_basis;
    for (int64_t k = 0; k < c.n_edges; ++k) {
      S sum = 0;
      for (int b = 0; b < model_n_basis; ++b) sum += d_basis ? d_basis[k * model_n_basis + b] * slope[k * model_n_basis + b] : S(0);
      length[k] = (first ? S(0) : length[k]) + sum;
    }
  }
}
