"""Analysis: how good a trajectory is, as pure functions on arrays.

A *series* is an array (n_frames, n_features) of one trajectory, which may be a memory map; functions
take a sequence of series, never pair frames across the end of one, and walk them in chunks. Lags are
in frames of the series at hand. What a metric needs is summed per *unit* (a replica, or a block of one
long trajectory), so that resampling is a new sum and never a new pass over frames.

======================  ===========================================================================
``features``            torsions of every bond, cosines and sines
``moments``             sums of lagged products, covariances
``tica``                slow coordinates
``divergence``          Jensen–Shannon divergences, coverage, precision
``vamp``                VAMP-2 scores and gap, implied time scales and their error
``markov``              states, transition matrices
``chapman_kolmogorov``  one step of k lags against k steps of one
``correlation``         correlation functions
``convergence``         split R-hat, effective sample size, replica against replica
``resampling``          blocks, bootstrap
``baselines``           noise floor of MD, ideal sampler
``metric``              the five numbers of each metric
``geometry``            bond lengths, angles, contacts
======================  ===========================================================================
"""
