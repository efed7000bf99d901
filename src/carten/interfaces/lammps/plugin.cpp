// pair_style carten: a model compiled by `carten export`, under LAMMPS with domain decomposition.
//
//   pair_style carten MODEL.so [threads N] [input NAME VALUE ..]
//   pair_coeff * * O H
//
// Features of ghost atoms are exchanged between the layers of the network, so that ghosts reach one cutoff only.
// Works with every stable LAMMPS from 23 Jun 2022 on; calls no MPI itself.
#include "atom.h"
#include "comm.h"
#include "error.h"
#include "force.h"
#include "lammps.h"
#include "memory.h"
#include "neigh_list.h"
#include "neighbor.h"
#include "pair.h"
#include "update.h"
#include "utils.h"

#include "carten_open.hpp"

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

// The interface of LAMMPS plugins, which has not changed since 2021; not every distribution ships its header.
extern "C" {
typedef void *(lammpsplugin_factory1)(void *);
typedef void *(lammpsplugin_factory2)(void *, int, char **);
typedef struct {
  const char *version, *style, *name, *info, *author;
  union {
    lammpsplugin_factory1 *v1;
    lammpsplugin_factory2 *v2;
  } creator;
  void *handle;
} lammpsplugin_t;
typedef void (*lammpsplugin_regfunc)(lammpsplugin_t *, void *);
__attribute__((visibility("default"))) void lammpsplugin_init(void *, void *, void *);
}

namespace {
using namespace LAMMPS_NS;

/// Values of one readout for `fix pair`: a vector, or an array of atoms.
struct Readout {
  int wanted = 0;  // set by fix pair before a step
  std::string flag;
  std::vector<double> values;
  std::vector<double *> rows;
};

class PairCarten : public Pair {
 public:
  explicit PairCarten(LAMMPS *lmp) : Pair(lmp) {
    single_enable = 0;
    restartinfo = 0;
    one_coeff = 1;
    manybody_flag = 1;
    no_virial_fdotr_compute = 1;
    centroidstressflag = CENTROID_NOTAVAIL;
  }

  ~PairCarten() override {
    if (state) model.destroy(state);
    if (allocated) {
      memory->destroy(setflag);
      memory->destroy(cutsq);
    }
  }

  /// The model is an argument of pair_style: hybrid styles ask how much is exchanged before pair_coeff is read.
  void settings(int narg, char **arg) override {
    if (narg < 1) error->all(FLERR, "pair_style carten expects a model: pair_style carten MODEL.so");
    if (state) error->all(FLERR, "pair_style carten: the model is there already; write pair_style none before another pair_style carten");
    char path[PATH_MAX];  // dlopen looks for plain names elsewhere than in the working directory
    if (!realpath(arg[0], path)) fail(std::string("there is no file ") + arg[0]);
    if (const std::string problem = model.open(path, arg[0]); !problem.empty()) fail(problem);
    state = model.create();
    if (!state) fail("no memory");
    comm_forward = comm_reverse = static_cast<int>((model.info->exchanged * model.info->scalar_bytes + 7) / 8);
    comm_reverse = std::max(comm_reverse, 3 * model.info->n_deviations);
    readouts.resize(model.info->n_readouts);
    pointers.resize(model.info->n_readouts);
    for (int k = 0; k < model.info->n_readouts; k++) {
      readouts[k].flag = std::string(model.info->readouts[k].name) + "_flag";
      if (strcmp(model.info->readouts[k].name, "forces") == 0)
        fail("the model reads forces from features, but here they are derivatives of its energy: use it from Python");
    }
    for (int k = 1; k < narg;) k = option(k, narg, arg);
    for (int k = 0; k < model.info->n_inputs; k++) {
      const carten_input &input = model.info->inputs[k];
      if (!input.required || std::count(inputs_set.begin(), inputs_set.end(), input.name)) continue;
      if (input.per_atom) fail(std::string("the model needs ") + input.name + " of every atom, which can't be given here");
      fail(std::string("the model needs ") + input.name + ": pair_style carten MODEL.so input " + input.name + " VALUE");
    }
    if (comm->me == 0)
      utils::logmesg(lmp, "carten: {}, {} layers, cutoff {} A, {}\n", arg[0], model.info->n_layers, model.info->cutoff,
                     model.info->scalar_bytes == 4 ? "float32" : "float64");
  }

  void coeff(int narg, char **arg) override {
    const int n = atom->ntypes;
    if (narg != 2 + n || strcmp(arg[0], "*") != 0 || strcmp(arg[1], "*") != 0)
      fail("expected pair_coeff * * and an element, or NULL, for each of the " + std::to_string(n) + " atom types");
    element_of_type.assign(n + 1, -1);
    for (int t = 1; t <= n; t++) element_of_type[t] = element(arg[1 + t], t);
    if (!allocated) {
      memory->create(setflag, n + 1, n + 1, "pair:setflag");
      memory->create(cutsq, n + 1, n + 1, "pair:cutsq");
      allocated = 1;
    }
    // In a hybrid style pairs with NULL belong to others; alone, atoms of NULL are there and feel nothing.
    const bool hybrid = utils::strmatch(force->pair_style, "^hybrid");
    for (int i = 1; i <= n; i++)
      for (int j = i; j <= n; j++) setflag[i][j] = !hybrid || (element_of_type[i] >= 0 && element_of_type[j] >= 0);
  }

  void init_style() override {
    if (!force->newton_pair) fail("it needs newton on");
    if (strcmp(update->unit_style, "metal") != 0 && strcmp(update->unit_style, "real") != 0)
      fail(std::string("it needs units metal or real, found units ") + update->unit_style);
    units = strcmp(update->unit_style, "real") == 0
                ? utils::get_conversion_factor(utils::ENERGY, utils::METAL2REAL)
                : 1.0;
    for (int k = 1; k < 4; k++)
      if (atom->molecular != 0 && (force->special_lj[k] != 1.0 || force->special_coul[k] != 1.0))
        fail("it needs all pairs of bonded atoms: special_bonds lj/coul 1.0 1.0 1.0");
    neighbor->add_request(this, NeighConst::REQ_FULL);
  }

  double init_one(int, int) override { return model.info->cutoff; }

  void compute(int eflag, int vflag) override {
    ev_init(eflag, vflag);
    collect_edges();
    const int n_own = atom->nlocal, n_all = n_own + atom->nghost;
    energies.resize(n_own + 1);
    gradients.resize(vectors.size() + 3);
    const carten_exchange exchange = {this, &PairCarten::forward, &PairCarten::reverse};
    if (model.evaluate(state, n_own, n_all, elements.data(), static_cast<int64_t>(centre.size()), centre.data(),
                       neighbour.data(), vectors.data(), &exchange, nullptr, energies.data(), gradients.data(),
                       prepare_readouts(n_own), prepare_deviations(n_all)))
      error->one(FLERR, "pair_style carten: {}", model.error(state));
    add_forces();
    empty_readouts(n_own);
    if (spread.wanted) spread_forces(n_own, n_all);
    if (eflag_either) add_energies();
  }

  // What fix pair asks for: readouts of atoms, such as charges, and the uncertainty of their forces.
  void *extract(const char *name, int &dim) override {
    dim = 0;
    if (model.info->n_deviations && spread.flag == name) return &spread.wanted;
    for (auto &readout : readouts)
      if (readout.flag == name) return &readout.wanted;
    return nullptr;
  }

  // No `override`: LAMMPS of 2022 does not ask for it.
  void *extract_peratom(const char *name, int &n_columns) {
    n_columns = 0;
    if (model.info->n_deviations && spread.flag == std::string(name) + "_flag") {
      reserve(spread, 1, atom->nlocal);
      return spread.values.data();
    }
    for (size_t k = 0; k < readouts.size(); k++) {
      if (strcmp(model.info->readouts[k].name, name) != 0) continue;
      const int components = model.info->readouts[k].components;
      n_columns = components == 1 ? 0 : components;
      reserve(readouts[k], components, atom->nlocal);
      return components == 1 ? static_cast<void *>(readouts[k].values.data()) : readouts[k].rows.data();
    }
    return nullptr;
  }

  int pack_forward_comm(int n, int *list, double *buffer, int, int *) override {
    return pack(n, buffer, [list](int i) { return list[i]; });
  }
  void unpack_forward_comm(int n, int first, double *buffer) override {
    char *from = reinterpret_cast<char *>(buffer);
    for (int i = first; i < first + n; i++, from = aligned(buffer, from))
      for (int p = 0; p < n_parts; p++) {
        std::memcpy(row(p, i), from, bytes(p));
        from += bytes(p);
      }
  }
  int pack_reverse_comm(int n, int first, double *buffer) override {
    return pack(n, buffer, [first](int i) { return first + i; });
  }
  void unpack_reverse_comm(int n, int *list, double *buffer) override {
    if (scalar_bytes == 4) add_rows<float>(n, list, buffer);
    else add_rows<double>(n, list, buffer);
  }

  double memory_usage() override {
    return Pair::memory_usage() + sizeof(double) * (vectors.capacity() + gradients.capacity() + energies.capacity()) +
           sizeof(double) * deviations.capacity() + sizeof(int64_t) * (centre.capacity() + neighbour.capacity());
  }

 private:
  carten::Library model;  // before the state, which goes first
  carten_state *state = nullptr;
  double units = 1.0;
  std::vector<int> element_of_type;
  std::vector<int32_t> elements;
  std::vector<int64_t> centre, neighbour;
  std::vector<double> vectors, energies, gradients;
  std::vector<int> own_atoms;
  std::vector<Readout> readouts;
  Readout spread = {0, "forces_uncertainty_flag", {}, {}};
  std::vector<double> deviations;  // forces of the members of an ensemble from their mean, of own atoms and ghosts
  std::vector<double *> pointers;
  std::vector<std::string> inputs_set;
  int n_parts = 0;  // of the exchange in progress
  void *const *parts = nullptr;
  const int64_t *width = nullptr;
  int64_t scalar_bytes = 8;

  [[noreturn]] void fail(const std::string &problem) {
    error->all(FLERR, "pair_style carten: {}", problem);
    std::abort();  // not reached: error->all does not return
  }

  /// Reads the option at position k, returns the position after it.
  int option(int k, int narg, char **arg) {
    if (strcmp(arg[k], "threads") == 0 && k + 1 < narg) {
      if (model.threads(state, utils::inumeric(FLERR, arg[k + 1], false, lmp))) fail(model.error(state));
      return k + 2;
    }
    if (strcmp(arg[k], "input") == 0 && k + 1 < narg) {
      const carten_input *input = nullptr;
      std::string names;
      for (int i = 0; i < model.info->n_inputs; i++) {
        if (strcmp(model.info->inputs[i].name, arg[k + 1]) == 0) input = model.info->inputs + i;
        names += std::string(names.empty() ? "" : ", ") + model.info->inputs[i].name;
      }
      if (!input) fail(std::string("the model has no input ") + arg[k + 1] + "; it has: " + (names.empty() ? "none" : names));
      if (input->per_atom) fail(std::string(input->name) + " has values for every atom, which can't be given here");
      if (k + 2 + input->components > narg)
        fail(std::string(input->name) + " has " + std::to_string(input->components) + " numbers");
      std::vector<double> values;
      for (int c = 0; c < input->components; c++) values.push_back(utils::numeric(FLERR, arg[k + 2 + c], false, lmp));
      if (model.set_input(state, input->name, 1, values.data())) fail(model.error(state));
      inputs_set.push_back(input->name);
      return k + 2 + input->components;
    }
    fail(std::string("expected threads N, or input NAME VALUE, found ") + arg[k]);
  }

  /// Position of an element among those of the model, -1 for NULL.
  int element(const char *symbol, int type) {
    if (strcmp(symbol, "NULL") == 0) return -1;
    std::string known;
    for (int k = 0; k < model.info->n_elements; k++) {
      const int number = model.info->numbers[k];
      if (number < 1 || number >= carten::N_SYMBOLS) continue;
      if (strcmp(carten::SYMBOLS[number], symbol) == 0) return k;
      known += std::string(" ") + carten::SYMBOLS[number];
    }
    fail(std::string("the model does not know the element ") + symbol + " of atom type " + std::to_string(type) +
         ", it knows" + known);
  }

  /// Edges by ascending centre, and the elements of all atoms; atoms of NULL have no edges.
  void collect_edges() {
    double **x = atom->x;
    const int *type = atom->type;
    const int n_all = atom->nlocal + atom->nghost;
    const double cutoff_squared = model.info->cutoff * model.info->cutoff;
    elements.resize(n_all + 1);
    for (int i = 0; i < n_all; i++) elements[i] = std::max(element_of_type[type[i]], 0);
    own_atoms.clear();
    for (int k = 0; k < list->inum; k++)
      if (element_of_type[type[list->ilist[k]]] >= 0) own_atoms.push_back(list->ilist[k]);
    std::sort(own_atoms.begin(), own_atoms.end());
    centre.clear();
    neighbour.clear();
    vectors.clear();
    for (const int i : own_atoms)
      for (int k = 0; k < list->numneigh[i]; k++) {
        const int j = list->firstneigh[i][k] & NEIGHMASK;
        if (element_of_type[type[j]] < 0) continue;
        const double d[3] = {x[j][0] - x[i][0], x[j][1] - x[i][1], x[j][2] - x[i][2]};
        if (d[0] * d[0] + d[1] * d[1] + d[2] * d[2] >= cutoff_squared) continue;
        centre.push_back(i);
        neighbour.push_back(j);
        vectors.insert(vectors.end(), d, d + 3);
      }
  }

  void add_forces() {
    double **f = atom->f;
    for (size_t e = 0; e < centre.size(); e++) {
      const int64_t i = centre[e], j = neighbour[e];
      const double *d = &vectors[3 * e];
      const double g[3] = {units * gradients[3 * e], units * gradients[3 * e + 1], units * gradients[3 * e + 2]};
      for (int k = 0; k < 3; k++) {
        f[i][k] += g[k];
        f[j][k] -= g[k];
      }
      if (!vflag_either) continue;
      const double v[6] = {-g[0] * d[0],
                           -g[1] * d[1],
                           -g[2] * d[2],
                           -0.5 * (g[0] * d[1] + g[1] * d[0]),
                           -0.5 * (g[0] * d[2] + g[2] * d[0]),
                           -0.5 * (g[1] * d[2] + g[2] * d[1])};
      for (int k = 0; k < 6; k++) {
        if (vflag_global) virial[k] += v[k];
        if (vflag_atom) {
          vatom[i][k] += 0.5 * v[k];
          vatom[j][k] += 0.5 * v[k];
        }
      }
    }
  }

  void add_energies() {
    for (const int i : own_atoms) {
      if (eflag_global) eng_vdwl += units * energies[i];
      if (eflag_atom) eatom[i] += units * energies[i];
    }
  }

  /// Arrays for the readouts that fix pair wants at this step; NULL for the others.
  double *const *prepare_readouts(int n_own) {
    bool any = false;
    for (size_t k = 0; k < readouts.size(); k++) {
      pointers[k] = nullptr;
      if (!readouts[k].wanted) continue;
      reserve(readouts[k], model.info->readouts[k].components, n_own);
      pointers[k] = readouts[k].values.data();
      any = true;
    }
    return any ? pointers.data() : nullptr;
  }

  /// Atoms of NULL have no charges either.
  void empty_readouts(int n_own) {
    for (size_t k = 0; k < readouts.size(); k++) {
      const int components = model.info->readouts[k].components;
      for (int i = 0; i < n_own && readouts[k].wanted; i++)
        if (element_of_type[atom->type[i]] < 0) std::fill_n(&readouts[k].values[static_cast<size_t>(i) * components], components, 0.0);
    }
  }

  /// Memory for what members differ by in forces; NULL if fix pair does not want their uncertainty at this step.
  double *prepare_deviations(int n_all) {
    if (!spread.wanted) return nullptr;
    deviations.assign(static_cast<size_t>(3 * model.info->n_deviations) * n_all + 1, 0.0);
    return deviations.data();
  }

  /// Root mean squares of components of deviations of forces, with those that other processes found for the same atoms.
  void spread_forces(int n_own, int n_all) {
    const int n = model.info->n_deviations;
    std::vector<void *> members(n);
    const std::vector<int64_t> three(n, 3);
    for (int m = 0; m < n; m++) members[m] = deviations.data() + static_cast<size_t>(3 * m) * n_all;
    begin(n, members.data(), three.data(), sizeof(double));
    comm->reverse_comm(this);
    reserve(spread, 1, n_own);
    for (int i = 0; i < n_own; i++) {
      double sum = 0;
      for (int m = 0; m < n; m++)
        for (int k = 0; k < 3; k++) sum += std::pow(deviations[3 * (static_cast<size_t>(m) * n_all + i) + k], 2);
      spread.values[i] = units * std::sqrt(sum / 3);
    }
  }

  static void reserve(Readout &readout, int components, int n_own) {
    readout.values.resize(static_cast<size_t>(n_own + 1) * components);
    if (components == 1) return;
    readout.rows.resize(n_own + 1);
    for (int i = 0; i <= n_own; i++) readout.rows[i] = readout.values.data() + static_cast<size_t>(i) * components;
  }

  // Rows of features travel as bytes, padded to whole doubles.
  int64_t bytes(int p) const { return width[p] * scalar_bytes; }
  char *row(int p, int64_t i) const { return static_cast<char *>(parts[p]) + i * bytes(p); }
  static char *aligned(double *buffer, char *at) {
    const size_t used = at - reinterpret_cast<char *>(buffer);
    return reinterpret_cast<char *>(buffer) + (used + 7) / 8 * 8;
  }

  template <class Rows> int pack(int n, double *buffer, const Rows &which) {
    char *to = reinterpret_cast<char *>(buffer);
    for (int i = 0; i < n; i++, to = aligned(buffer, to))
      for (int p = 0; p < n_parts; p++) {
        std::memcpy(to, row(p, which(i)), bytes(p));
        to += bytes(p);
      }
    return static_cast<int>((to - reinterpret_cast<char *>(buffer)) / 8);
  }

  template <class Scalar> void add_rows(int n, const int *list, double *buffer) {
    char *from = reinterpret_cast<char *>(buffer);
    for (int i = 0; i < n; i++, from = aligned(buffer, from))
      for (int p = 0; p < n_parts; p++) {
        Scalar *to = reinterpret_cast<Scalar *>(row(p, list[i]));
        const Scalar *added = reinterpret_cast<const Scalar *>(from);
        for (int64_t k = 0; k < width[p]; k++) to[k] += added[k];
        from += bytes(p);
      }
  }

  void begin(int32_t n, void *const *rows, const int64_t *widths, int64_t bytes_each) {
    n_parts = n;
    parts = rows;
    width = widths;
    scalar_bytes = bytes_each;
  }
  static void forward(void *context, int32_t n, void *const *features, const int64_t *widths) {
    auto *pair = static_cast<PairCarten *>(context);
    pair->begin(n, features, widths, pair->model.info->scalar_bytes);
    pair->comm->forward_comm(pair);
  }
  static void reverse(void *context, int32_t n, void *const *features, const int64_t *widths) {
    auto *pair = static_cast<PairCarten *>(context);
    pair->begin(n, features, widths, pair->model.info->scalar_bytes);
    pair->comm->reverse_comm(pair);
  }
};

void *create(void *lmp) { return new PairCarten(static_cast<LAMMPS *>(lmp)); }
}  // namespace

extern "C" void lammpsplugin_init(void *lmp, void *handle, void *regfunc) {
  lammpsplugin_t plugin;
  std::memset(&plugin, 0, sizeof plugin);
  plugin.version = static_cast<LAMMPS_NS::LAMMPS *>(lmp)->version;
  plugin.style = "pair";
  plugin.name = "carten";
  plugin.info = "models of carten, compiled by carten export";
  plugin.author = "The carten developers";
  plugin.creator.v1 = create;
  plugin.handle = handle;
  reinterpret_cast<lammpsplugin_regfunc>(regfunc)(&plugin, lmp);
}
