// A convenience for C++ programs around carten_model.h: states that free themselves, errors as exceptions.
#ifndef CARTEN_MODEL_HPP
#define CARTEN_MODEL_HPP
#include "carten_model.h"

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace carten {

/// Pairs of atoms, both directions, by ascending centre; shifts are lattice vectors, three for each pair, or empty.
struct Pairs {
  std::vector<int64_t> centre, neighbour;
  std::vector<int32_t> shifts;
};

struct Result {
  std::vector<double> energies, forces;  ///< eV; eV/Angstrom, three for each atom
  double virial[9] = {};                 ///< eV
  double energy() const {
    double sum = 0;
    for (double e : energies) sum += e;
    return sum;
  }
};

/// A model; one for each thread that evaluates.
class Model {
 public:
  explicit Model(int threads = 1) : state_(carten_create(), &carten_destroy) {
    if (info().interface != CARTEN_INTERFACE) throw std::runtime_error("the library has another version of the interface");
    if (!state_) throw std::bad_alloc();
    check(carten_threads(state_.get(), threads));
  }

  static const carten_info& info() { return *carten_describe(); }

  /// Position of an atomic number among the elements of the model.
  static int32_t element(int number) {
    for (int32_t k = 0; k < info().n_elements; ++k)
      if (info().numbers[k] == number) return k;
    throw std::invalid_argument("the model does not know the element " + std::to_string(number));
  }

  void set(const std::string& input, const std::vector<double>& values, int64_t rows = 1) {
    check(carten_set_input(state_.get(), input.c_str(), rows, values.data()));
  }

  /// `positions`: three for each atom; `cell`: nine numbers, or empty.
  Result operator()(const std::vector<int32_t>& elements, const std::vector<double>& positions,
                    const std::vector<double>& cell, const Pairs& pairs) {
    Result result;
    result.energies.resize(elements.size());
    result.forces.resize(3 * elements.size());
    check(carten_step(state_.get(), static_cast<int64_t>(elements.size()), elements.data(), positions.data(),
                      cell.empty() ? nullptr : cell.data(), static_cast<int64_t>(pairs.centre.size()),
                      pairs.centre.data(), pairs.neighbour.data(), pairs.shifts.empty() ? nullptr : pairs.shifts.data(),
                      result.energies.data(), result.forces.data(), result.virial, nullptr, nullptr, nullptr, nullptr));
    return result;
  }

 private:
  void check(int failed) const {
    if (failed) throw std::runtime_error(carten_error(state_.get()));
  }
  std::unique_ptr<carten_state, void (*)(carten_state*)> state_;
};

}  // namespace carten
#endif
