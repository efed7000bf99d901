// From vectors or positions to what the phases take of the edges of a chunk, and from gradients back.

/// Radial basis times envelope, and slopes, at a length: bessel or chebyshev functions.
static void radial_basis(double r, S* values, S* slopes) {
  if constexpr (!model_tabulated) {
    const double x = r < model_cutoff ? r / model_cutoff : 1.0;
    const double rest = 1 - x;
    double series = 0, d_series = 0;
    for (int k = model_envelope_power - 1; k >= 0; --k) {
      d_series = d_series * x + series;
      series = series * x + 0.5 * (k + 1) * (k + 2);
    }
    const double envelope = rest * rest * rest * series;
    const double d_envelope = (rest * rest * rest * d_series - 3 * rest * rest * series) / model_cutoff;
    double f[model_n_basis], d[model_n_basis];
    if (model_bessel) {
      constexpr double pi = 3.14159265358979323846;
      const double c = std::sqrt(2 / model_cutoff);
      for (int k = 0; k < model_n_basis; ++k) {
        const double q = (k + 1) * pi / model_cutoff, t = q * r;
        if (t < 0.05) {  // sin(t) / t and its derivative in series
          const double u = t * t;
          f[k] = c * q * (1 - u / 6 * (1 - u / 20 * (1 - u / 42 * (1 - u / 72))));
          d[k] = -c * q * q * t / 3 * (1 - u / 10 * (1 - u / 28 * (1 - u / 54)));
        } else {
          f[k] = c * std::sin(t) / r;
          d[k] = (c * q * std::cos(t) - f[k]) / r;
        }
      }
    } else {
      const double t = 2 * r / model_cutoff - 1, dt = 2 / model_cutoff;
      f[0] = 1, d[0] = 0;
      if (model_n_basis > 1) f[1] = t, d[1] = dt;
      for (int k = 2; k < model_n_basis; ++k) {
        f[k] = 2 * t * f[k - 1] - f[k - 2];
        d[k] = 2 * dt * f[k - 1] + 2 * t * d[k - 1] - d[k - 2];
      }
    }
    for (int k = 0; k < model_n_basis; ++k) {
      values[k] = S(f[k] * envelope);
      slopes[k] = S(d[k] * envelope + f[k] * d_envelope);
    }
  }
}

/// Screened repulsion of nuclei, and cores inside of which the network sees atoms as if they did not come closer.
struct Core {
  double seen, slope, energy, d_energy;
};
static Core core_of(double r, int64_t one, int64_t other) {
  Core result{r, 1, 0, 0};
  if constexpr (model_zbl) {
    const int32_t* const numbers = static_cast<const int32_t*>(data.at(entry_numbers));
    const int64_t pair = one * model_n_elements + other;
    const double reach = data.doubles(entry_reach)[pair], size = data.doubles(entry_core)[pair];
    const double *table = data.doubles(entry_zbl), low = table[0], high = table[1];
    if (size > 0 && r < high * size) {
      double t = (r / size - low) / (high - low);
      t = t < 0 ? 0 : t > 1 ? 1 : t;
      const double t3 = t * t * t;
      result.seen = size * (high - (high - low) * (0.5 - t3 * t * (t * (t - 3) + 2.5)));
      result.slope = t3 * (t * (6 * t - 15) + 10);
    }
    if (r < reach) {
      const double zi = numbers[one], zj = numbers[other];
      const double k = (std::pow(zi, table[2]) + std::pow(zj, table[2])) / table[3];
      double screening = 0, d_screening = 0;
      for (int n = 0; n < 4; ++n) {
        const double a = table[5 + 2 * n], b = table[6 + 2 * n] * k, e = a * std::exp(-b * r);
        screening += e;
        d_screening -= b * e;
      }
      const int power = static_cast<int>(table[13]);
      const double u = r / reach, rest = 1 - u;
      double series = 0, d_series = 0;
      for (int m = power - 1; m >= 0; --m) {
        d_series = d_series * u + series;
        series = series * u + 0.5 * (m + 1) * (m + 2);
      }
      const double step = rest * rest * rest * series;
      const double d_step = (rest * rest * rest * d_series - 3 * rest * rest * series) / reach;
      const double v = table[4] * zi * zj / r * screening, dv = table[4] * zi * zj / r * (d_screening - screening / r);
      result.energy = 0.5 * v * step;
      result.d_energy = 0.5 * (dv * step + v * d_step);
    }
  }
  return result;
}

/// The edges of a chunk within the cutoff. Returns whether atoms are apart and everything is finite.
static bool geometry(Evaluation& v, Chunk& c, Part& part) {
  const Request& q = *v.request;
  carten_state& s = *v.s;
  const int64_t* const starts = s.starts.data();
  int64_t* const centre = s.centre.data();
  int64_t* const neighbour = s.neighbour.data();
  int64_t* const low = s.low.data();
  S *const unit = s.unit.data(), *const fraction = s.fraction.data();
  constexpr double square = model_cutoff * model_cutoff;
  const double* const ends = q.vectors ? q.vectors : q.positions;
  const bool shifted = !q.vectors && q.shifts;
  double m[9] = {};
  if (shifted) std::memcpy(m, q.cell, sizeof m);
  int64_t e = c.edge;
  for (int64_t i = 0; i < c.n; ++i) {
    const int64_t atom = c.first + i;
    double from[3] = {};
    if (!q.vectors) std::memcpy(from, q.positions + 3 * atom, sizeof from);
    for (int64_t p = starts[atom]; p < starts[atom + 1]; ++p) {  // what is too far is overwritten by the next: no branch
      const int64_t j = q.neighbour[p];
      const double* const to = ends + 3 * (q.vectors ? p : j);
      double x = to[0] - from[0], y = to[1] - from[1], z = to[2] - from[2];
      if (shifted) {
        const double n[3] = {double(q.shifts[3 * p]), double(q.shifts[3 * p + 1]), double(q.shifts[3 * p + 2])};
        x += n[0] * m[0] + n[1] * m[3] + n[2] * m[6];
        y += n[0] * m[1] + n[1] * m[4] + n[2] * m[7];
        z += n[0] * m[2] + n[1] * m[5] + n[2] * m[8];
      }
      const double r2 = x * x + y * y + z * z;
      if (!(r2 > 1e-12 && r2 < 1e300)) {
        part.failure = {r2 <= 1e-12 ? "atoms %lld and %lld are at one place" : "the vector between atoms %lld and %lld is not finite", atom, j};
        return false;
      }
      unit[3 * e] = S(x), unit[3 * e + 1] = S(y), unit[3 * e + 2] = S(z);
      neighbour[e] = j;
      centre[e] = i;
      if (v.origin) v.origin[e] = p;
      e += r2 < square;
    }
  }
  c.n_edges = e - c.edge;
  const S width = S(static_cast<double>(v.n_intervals) / model_cutoff), most = S(v.n_intervals);
  for (int64_t k = c.edge; k < e; ++k) {
    const S r = std::sqrt(unit[3 * k] * unit[3 * k] + unit[3 * k + 1] * unit[3 * k + 1] + unit[3 * k + 2] * unit[3 * k + 2]);
    const S inverse = 1 / r;
    v.length[k] = r;
    for (int a = 0; a < 3; ++a) unit[3 * k + a] *= inverse;
  }
  const S* lengths = v.length;
  if constexpr (model_zbl) {
    lengths = v.seen;
    for (int64_t k = c.edge; k < e; ++k) {
      const int64_t atom = c.first + centre[k];
      const Core core = core_of(v.length[k], v.element[atom], v.element[neighbour[k]]);
      v.seen[k] = S(core.seen);
      v.core[3 * k] = core.energy, v.core[3 * k + 1] = core.d_energy, v.core[3 * k + 2] = core.slope;
    }
  }
  if constexpr (model_tabulated) {
    for (int64_t k = c.edge; k < e; ++k) {
      S position = lengths[k] * width;
      position = position > most ? most : position;
      int32_t at = static_cast<int32_t>(position);
      at = at > v.n_intervals - 1 ? static_cast<int32_t>(v.n_intervals - 1) : at;
      fraction[k] = position - S(at);
      low[k] = at;
    }
  } else {
    for (int64_t k = c.edge; k < e; ++k)
      radial_basis(lengths[k], s.basis.data() + k * model_n_basis, s.slope.data() + k * model_n_basis);
    if constexpr (model_element_dependent)
      for (int64_t k = c.edge; k < e; ++k) {
        s.centre_element.data()[k] = v.element[c.first + centre[k]];
        s.neighbour_element.data()[k] = v.element[neighbour[k]];
      }
  }
  for (int64_t i = 0; i < c.n; ++i) v.energies[c.first + i] = 0;
  if constexpr (model_zbl)
    for (int64_t k = c.edge; k < e; ++k) v.energies[c.first + centre[k]] += v.core[3 * k];
  return true;
}

/// Gradients of edge vectors, forces, virials from those of unit vectors, which they replace, and lengths.
static void finish(const Evaluation& v, const Chunk& c, Part& part) {
  const Request& q = *v.request;
  const int64_t end = c.edge + c.n_edges;
  const S* const unit = v.unit;
  S* const g = v.d_unit;
  for (int64_t k = c.edge; k < end; ++k) {
    const S inverse = 1 / v.length[k];
    S along = v.d_length[k];
    if constexpr (model_zbl) {
      const int64_t atom = c.first + v.centre[k];
      along *= S(v.core[3 * k + 2]);
      if (v.deviation < 0 && (!v.counted || v.counted[atom])) along += S(v.core[3 * k + 1]);
    }
    const S rest = along - inverse * (unit[3 * k] * g[3 * k] + unit[3 * k + 1] * g[3 * k + 1] + unit[3 * k + 2] * g[3 * k + 2]);
    for (int a = 0; a < 3; ++a) g[3 * k + a] = g[3 * k + a] * inverse + unit[3 * k + a] * rest;
  }
  if (q.forces) {
    double* const forces = part.forces.data();
    for (int64_t k = c.edge; k < end;) {
      double* const one = forces + 3 * (c.first + v.centre[k]);
      const int64_t atom = v.centre[k];
      double x = 0, y = 0, z = 0;
      for (; k < end && v.centre[k] == atom; ++k) {
        double* const other = forces + 3 * v.neighbour[k];
        x += g[3 * k], y += g[3 * k + 1], z += g[3 * k + 2];
        other[0] -= g[3 * k], other[1] -= g[3 * k + 1], other[2] -= g[3 * k + 2];
      }
      one[0] += x, one[1] += y, one[2] += z;
    }
  }
  if (q.virial)
    for (int64_t k = c.edge; k < end; ++k)
      for (int a = 0; a < 3; ++a)
        for (int b = 0; b < 3; ++b) part.virial[3 * a + b] -= double(g[3 * k + a]) * (unit[3 * k + b] * v.length[k]);
  if (q.gradients)
    for (int64_t k = c.edge; k < end; ++k)
      for (int a = 0; a < 3; ++a) q.gradients[3 * v.origin[k] + a] = g[3 * k + a];
}

/// Empty what a part adds to.
static void open_results(const Evaluation& v, Part& part) {
  if (v.request->forces) part.forces.zeroed(3 * (v.n_all + 1));
  for (double& x : part.virial) x = 0;
}
