// What the phases of a model work on: one evaluation, and one chunk of its atoms.

#include <cstdint>

/// One evaluation. Arrays of edges hold the edges of every chunk from its `edge` on.
struct View {
  int64_t n_own = 0, n_all = 0;
  const S* const* weights = nullptr;  ///< constants by number
  S* const* array = nullptr;          ///< what phases leave to each other, by number
  const int64_t* element = nullptr;   ///< of all atoms
  const int64_t* zero = nullptr;      ///< as many zeros as there are atoms
  const int64_t* const* category = nullptr;  ///< positions among categories: one of the structure, or of all atoms
  int64_t level = 0;                  ///< of theory
  // edges
  const int64_t *centre = nullptr, *neighbour = nullptr, *low = nullptr;  ///< centres count from the chunk's first atom
  const int64_t *centre_element = nullptr, *neighbour_element = nullptr;
  const S *one = nullptr, *unit = nullptr, *fraction = nullptr, *basis = nullptr;
  int64_t n_intervals = 0;
  // what is wanted
  bool gradients = false;
  int deviation = -1;  ///< whose gradients they are; those of the energy
  double* energies = nullptr;
  const int32_t* counted = nullptr;
  double* const* readouts = nullptr;
};

/// Atoms first .. first + n with their edges; or as many rows of an array, without edges.
struct Chunk {
  int64_t first = 0, n = 0, edge = 0, n_edges = 0;
  S* local = nullptr;
  S* const* copies = nullptr;  ///< arrays that edges add to at neighbours, of this part of the work
};

static INLINE int64_t address(const void* p) { return reinterpret_cast<int64_t>(p); }
static INLINE int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }
