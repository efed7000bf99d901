// A portable model of KIM: a library of `carten export`, which lies in this file's object.
//
// KIM has no exchange between the layers of a network, so that a simulator has to keep ghosts within layers x cutoff.
// Atoms that many steps away from the contributing ones are only seen by others: they have no neighbours here.
#include "KIM_ModelHeaders.hpp"

#include "carten_open.hpp"

#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <exception>
#include <vector>

__asm__(".pushsection .rodata\n"
        "carten_library: .incbin \"" CARTEN_LIBRARY "\"\n"
        "carten_library_end: .byte 0\n"
        ".popsection\n");
extern "C" {
extern const char carten_library[] __attribute__((visibility("hidden")));
extern const char carten_library_end[] __attribute__((visibility("hidden")));
}

namespace {
using namespace KIM;

/// A file in memory. It stays open as long as the library: its name must not come again for another one.
struct MemoryFile {
  const int descriptor = memfd_create("carten", 0);
  ~MemoryFile() {
    if (descriptor >= 0) close(descriptor);
  }
  bool write(const char *from, const char *end) const {
    while (from < end) {
      const ssize_t written = ::write(descriptor, from, static_cast<size_t>(end - from));
      if (written <= 0) return false;
      from += written;
    }
    return true;
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor); }
};

struct Evaluation {
  MemoryFile file;
  carten::Library library;
  carten_state *state = nullptr;
  double length = 1, energy = 1;  ///< Angstrom and eV in the units of the simulator
  double influence = 0, cutoff = 0;
  int without_ghosts = 0;  ///< whether neighbours of ghosts are of no use
  int n_own = 0;           ///< atoms whose features are evaluated
  std::vector<int> atoms, row;
  std::vector<int32_t> element, counted;
  std::vector<int64_t> centre, neighbour;
  std::vector<double> vectors, energies, gradients;

  ~Evaluation() {
    if (state) library.destroy(state);
  }

  std::string open() {
    if (!file.write(carten_library, carten_library_end)) return "the library of the model can't be copied to memory";
    if (const std::string problem = library.open(file.path().c_str(), CARTEN_NAME); !problem.empty()) return problem;
    state = library.create();
    return state ? "" : "no memory";
  }

  /// Contributing atoms first, then the others step by step; edges by ascending centre.
  bool collect(const ModelComputeArguments &arguments, int n, const int *species, const int *contributes, const double *x) {
    const double cutoff_squared = library.info->cutoff * library.info->cutoff;
    atoms.clear(), centre.clear(), neighbour.clear(), vectors.clear();
    row.assign(static_cast<size_t>(n), -1);
    for (int i = 0; i < n; ++i)
      if (contributes[i]) add(i);
    const int n_contributing = static_cast<int>(atoms.size());
    size_t first = 0;
    for (int step = 0; step < library.info->n_layers; ++step) {
      const size_t last = atoms.size();
      for (; first < last; ++first) {
        const int i = atoms[first], *list = nullptr;
        int n_neighbours = 0;
        if (arguments.GetNeighborList(0, i, &n_neighbours, &list)) return false;
        for (int k = 0; k < n_neighbours; ++k) {
          const int j = list[k];
          double d[3], square = 0;
          for (int c = 0; c < 3; ++c) d[c] = (x[3 * j + c] - x[3 * i + c]) / length, square += d[c] * d[c];
          if (square >= cutoff_squared) continue;
          if (row[j] < 0) add(j);
          centre.push_back(static_cast<int64_t>(first)), neighbour.push_back(row[j]);
          vectors.insert(vectors.end(), d, d + 3);
        }
      }
    }
    n_own = static_cast<int>(first);
    element.resize(atoms.size());
    for (size_t k = 0; k < atoms.size(); ++k) element[k] = species[atoms[k]];
    counted.assign(first, 0);
    std::fill_n(counted.begin(), n_contributing, 1);
    energies.resize(first + 1);
    gradients.resize(vectors.size() + 3);
    return true;
  }

  void add(int atom) {
    row[atom] = static_cast<int>(atoms.size());
    atoms.push_back(atom);
  }

  /// Features of atoms at the end of the shell reach no energy that counts: they only must be numbers.
  static void forward(void *context, int32_t n_parts, void *const *parts, const int64_t *width) {
    const Evaluation &m = *static_cast<Evaluation *>(context);
    for (int32_t p = 0; p < n_parts; ++p) {
      const size_t bytes = static_cast<size_t>(width[p] * m.library.info->scalar_bytes);
      std::memset(static_cast<char *>(parts[p]) + m.n_own * bytes, 0, (m.atoms.size() - m.n_own) * bytes);
    }
  }
  static void reverse(void *, int32_t, void *const *, const int64_t *) {}

  bool evaluate() {
    const carten_exchange exchange = {this, &Evaluation::forward, &Evaluation::reverse};
    return !library.evaluate(state, n_own, static_cast<int64_t>(atoms.size()), element.data(),
                             static_cast<int64_t>(centre.size()), centre.data(), neighbour.data(), vectors.data(),
                             &exchange, counted.data(), energies.data(), gradients.data(), nullptr, nullptr);
  }
};

/// What the simulator asks for; NULL where it does not.
struct Arrays {
  double *energy = nullptr, *energies = nullptr, *forces = nullptr, *virial = nullptr, *virials = nullptr;

  void clear(size_t n) const {
    if (energy) *energy = 0;
    if (energies) std::fill_n(energies, n, 0.0);
    if (forces) std::fill_n(forces, 3 * n, 0.0);
    if (virial) std::fill_n(virial, 6, 0.0);
    if (virials) std::fill_n(virials, 6 * n, 0.0);
  }

  void add_energies(const Evaluation &m) const {
    for (size_t k = 0; k < m.counted.size(); ++k) {
      if (energy) *energy += m.energy * m.energies[k];
      if (energies) energies[m.atoms[k]] = m.energy * m.energies[k];
    }
  }

  void add_pairs(const Evaluation &m) const {
    for (size_t e = 0; e < m.centre.size(); ++e) {
      const int i = m.atoms[m.centre[e]], j = m.atoms[m.neighbour[e]];
      const double *d = &m.vectors[3 * e];
      double g[3];
      for (int c = 0; c < 3; ++c) g[c] = m.energy * m.gradients[3 * e + c];
      for (int c = 0; forces && c < 3; ++c) forces[3 * i + c] += g[c] / m.length, forces[3 * j + c] -= g[c] / m.length;
      const double v[6] = {g[0] * d[0],
                           g[1] * d[1],
                           g[2] * d[2],
                           (g[1] * d[2] + g[2] * d[1]) / 2,
                           (g[0] * d[2] + g[2] * d[0]) / 2,
                           (g[0] * d[1] + g[1] * d[0]) / 2};
      for (int c = 0; virial && c < 6; ++c) virial[c] += v[c];
      for (int c = 0; virials && c < 6; ++c) virials[6 * i + c] += v[c] / 2, virials[6 * j + c] += v[c] / 2;
    }
  }
};

int arguments_create(const ModelCompute *, ModelComputeArgumentsCreate *const create) {
  using namespace COMPUTE_ARGUMENT_NAME;
  for (const ComputeArgumentName &name :
       {partialEnergy, partialParticleEnergy, partialForces, partialVirial, partialParticleVirial})
    if (create->SetArgumentSupportStatus(name, SUPPORT_STATUS::optional)) return 1;
  return 0;
}

int arguments_destroy(const ModelCompute *, ModelComputeArgumentsDestroy *) { return 0; }

template <class Host> int fail(const Host &host, const std::string &problem) {
  host.LogEntry(LOG_VERBOSITY::error, problem, __LINE__, __FILE__);
  return 1;
}

int compute(const ModelCompute *const host, const ModelComputeArguments *const arguments) {
  using namespace COMPUTE_ARGUMENT_NAME;
  Evaluation *m = nullptr;
  host->GetModelBufferPointer(reinterpret_cast<void **>(&m));
  const int *n = nullptr, *species = nullptr, *contributes = nullptr;
  const double *x = nullptr;
  Arrays arrays;
  if (arguments->GetArgumentPointer(numberOfParticles, &n) ||
      arguments->GetArgumentPointer(particleSpeciesCodes, &species) ||
      arguments->GetArgumentPointer(particleContributing, &contributes) ||
      arguments->GetArgumentPointer(coordinates, &x) || arguments->GetArgumentPointer(partialEnergy, &arrays.energy) ||
      arguments->GetArgumentPointer(partialParticleEnergy, &arrays.energies) ||
      arguments->GetArgumentPointer(partialForces, &arrays.forces) ||
      arguments->GetArgumentPointer(partialVirial, &arrays.virial) ||
      arguments->GetArgumentPointer(partialParticleVirial, &arrays.virials))
    return fail(*host, "the simulator keeps arguments back");
  try {
    if (!m->collect(*arguments, *n, species, contributes, x)) return fail(*host, "the simulator has no list of neighbours");
    if (!m->evaluate()) return fail(*host, m->library.error(m->state));
  } catch (const std::exception &error) {
    return fail(*host, error.what());
  }
  arrays.clear(static_cast<size_t>(*n));
  arrays.add_energies(*m);
  arrays.add_pairs(*m);
  return 0;
}

int destroy(ModelDestroy *const host) {
  Evaluation *m = nullptr;
  host->GetModelBufferPointer(reinterpret_cast<void **>(&m));
  delete m;
  return 0;
}

/// The size of Angstrom or eV in the units of a simulator.
int unit(ModelCreate &host, LengthUnit length, EnergyUnit energy, double length_power, double energy_power, double &size) {
  return host.ConvertUnit(LENGTH_UNIT::A, ENERGY_UNIT::eV, CHARGE_UNIT::e, TEMPERATURE_UNIT::K, TIME_UNIT::ps, length, energy,
                          CHARGE_UNIT::e, TEMPERATURE_UNIT::K, TIME_UNIT::ps, length_power, energy_power, 0, 0, 0, &size);
}

template <class Routine> int set(ModelCreate &host, ModelRoutineName name, Routine *routine) {
  return host.SetRoutinePointer(name, LANGUAGE_NAME::cpp, true, reinterpret_cast<Function *>(routine));
}
}  // namespace

extern "C" int model_create(ModelCreate *const host, LengthUnit const length, EnergyUnit const energy, ChargeUnit const,
                            TemperatureUnit const, TimeUnit const) {
  Evaluation *const m = new Evaluation;
  host->SetModelBufferPointer(m);
  if (const std::string problem = m->open(); !problem.empty()) return fail(*host, problem);
  if (unit(*host, length, energy, 1, 0, m->length) || unit(*host, length, energy, 0, 1, m->energy))
    return fail(*host, "units of length and energy that are unknown");
  const carten_info &info = *m->library.info;
  m->cutoff = m->length * info.cutoff;
  m->influence = m->cutoff * info.n_layers;
  m->without_ghosts = info.n_layers == 1;
  int failed = host->SetModelNumbering(NUMBERING::zeroBased) ||
               host->SetUnits(length, energy, CHARGE_UNIT::unused, TEMPERATURE_UNIT::unused, TIME_UNIT::unused);
  for (int32_t k = 0; k < info.n_elements; ++k)
    failed = failed || host->SetSpeciesCode(SpeciesName(carten::SYMBOLS[info.numbers[k]]), k);
  host->SetInfluenceDistancePointer(&m->influence);
  host->SetNeighborListPointers(1, &m->cutoff, &m->without_ghosts);
  using namespace MODEL_ROUTINE_NAME;
  return failed || set<ModelComputeArgumentsCreateFunction>(*host, ComputeArgumentsCreate, arguments_create) ||
         set<ModelComputeFunction>(*host, Compute, compute) ||
         set<ModelComputeArgumentsDestroyFunction>(*host, ComputeArgumentsDestroy, arguments_destroy) ||
         set<ModelDestroyFunction>(*host, Destroy, destroy);
}
