// Libraries of models, opened while a program runs: for programs that are not linked to one.
#ifndef CARTEN_OPEN_HPP
#define CARTEN_OPEN_HPP
#include "carten_model.h"

#include <dlfcn.h>
#include <cstring>
#include <fstream>
#include <string>

namespace carten {

/// Symbols of the elements by atomic number.
const char *const SYMBOLS[] = {
    "X",  "H",  "He", "Li", "Be", "B",  "C",  "N",  "O",  "F",  "Ne", "Na", "Mg", "Al", "Si", "P",  "S",  "Cl", "Ar", "K",
    "Ca", "Sc", "Ti", "V",  "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y",
    "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I",  "Xe", "Cs", "Ba", "La", "Ce", "Pr",
    "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W",  "Re", "Os", "Ir", "Pt", "Au",
    "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U",  "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es",
    "Fm", "Md", "No", "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og"};
constexpr int N_SYMBOLS = sizeof SYMBOLS / sizeof *SYMBOLS;

/// The functions of a library, which is closed again at the end; destroy its states before.
struct Library {
  const carten_info *info = nullptr;
  decltype(&carten_create) create = nullptr;
  decltype(&carten_destroy) destroy = nullptr;
  decltype(&carten_error) error = nullptr;
  decltype(&carten_threads) threads = nullptr;
  decltype(&carten_set_input) set_input = nullptr;
  decltype(&carten_evaluate) evaluate = nullptr;

  Library() = default;
  Library(const Library &) = delete;
  Library &operator=(const Library &) = delete;
  ~Library() {
    if (handle_) dlclose(handle_);
  }

  /// Returns what is wrong, or an empty string. `name` is what messages call the library.
  std::string open(const char *path, const std::string &name) {
    handle_ = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle_) return dlerror();
    decltype(&carten_describe) describe = nullptr;
    if (!find(describe, "carten_describe")) return name + " is no model of carten: write one with carten export";
    info = describe();
    if (info->interface != CARTEN_INTERFACE)
      return name + " has interface " + std::to_string(info->interface) + ", this program " +
             std::to_string(CARTEN_INTERFACE) + ": export it again with the carten that is installed";
    if (const std::string feature = missing_feature(); !feature.empty())
      return name + " needs a processor with " + feature + ", which this one has not: export it here, or with --march x86-64-v3";
    if (!find(create, "carten_create") || !find(destroy, "carten_destroy") || !find(error, "carten_error") ||
        !find(threads, "carten_threads") || !find(set_input, "carten_set_input") || !find(evaluate, "carten_evaluate"))
      return name + " is incomplete: export it again";
    return "";
  }

 private:
  void *handle_ = nullptr;

  template <class Function> bool find(Function &function, const char *name) {
    function = reinterpret_cast<Function>(dlsym(handle_, name));
    return function != nullptr;
  }

  /// The first feature of the processor that the library needs, as its header lists them, and this one lacks.
  std::string missing_feature() const {
    std::string line, flags;
    for (std::ifstream file("/proc/cpuinfo"); flags.empty() && std::getline(file, line);)
      if (line.compare(0, 5, "flags") == 0) flags = line + " ";
    const char *word = std::strstr(info->header, "\"features\": [");
    if (flags.empty() || !word) return "";
    for (word += 13; *word == '"' || *word == ',' || *word == ' ';) {
      if (*word++ != '"') continue;
      const std::string feature(word, std::strcspn(word, "\""));
      if (flags.find(" " + feature + " ") == std::string::npos) return feature;
      word += feature.size() + 1;
    }
    return "";
  }
};

}  // namespace carten
#endif
